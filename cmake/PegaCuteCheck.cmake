# SPDX-License-Identifier: Apache-2.0
# The last step of pega_cute_module: refuses a module that needs what nobody provides, or that would end the
# process. Called with KIND, FILE, NM and OBJECTS (a list).
execute_process(COMMAND ${NM} --undefined-only --dynamic ${FILE}
  OUTPUT_VARIABLE text RESULT_VARIABLE status ERROR_VARIABLE error)
if(NOT status EQUAL 0)
  message(FATAL_ERROR "${NM} could not read ${FILE}: ${error}")
endif()

# Symbols of libc carry its version; TVM FFI's C functions are the process's; of the driver nothing is
# imported, as CUDA's runtime opens it.
set(missing "")
string(REPLACE "\n" ";" lines "${text}")
foreach(line IN LISTS lines)
  if(NOT line MATCHES "^ +([A-Za-z]) (.+)$")
    continue()
  endif()
  set(binding "${CMAKE_MATCH_1}")
  set(symbol "${CMAKE_MATCH_2}")
  if(binding STREQUAL "w" OR binding STREQUAL "v" OR symbol MATCHES "@+GLIBC_" OR
     (symbol MATCHES "^TVMFFI" AND KIND STREQUAL "tvm_ffi"))
    continue()
  endif()
  list(APPEND missing "${symbol}")
endforeach()

set(problems "")
foreach(symbol IN LISTS missing)
  set(from "")
  foreach(object IN LISTS OBJECTS)
    execute_process(COMMAND ${NM} --undefined-only ${object} OUTPUT_VARIABLE imports ERROR_QUIET)
    if(imports MATCHES " U ${symbol}\n")
      get_filename_component(name ${object} NAME)
      string(APPEND from " ${name}")
    endif()
  endforeach()
  if(from)
    set(from " (imported by${from})")
  endif()
  string(APPEND problems "  ${symbol}${from}\n")
endforeach()
if(problems)
  file(REMOVE ${FILE})
  set(hint "If it belongs to CuTe DSL, its release is newer than this pega knows.")
  if(problems MATCHES "  TVMFFI")
    set(hint "Objects compiled with --enable-tvm-ffi need KIND tvm_ffi.")
  endif()
  message(FATAL_ERROR "${FILE} would need symbols that nobody provides: neither libc, nor CuTe DSL's static "
                      "library, nor CUDA's runtime, nor pega:\n${problems}${hint}")
endif()

# These of CuTe DSL's functions print to standard error and one ends the process.
foreach(object IN LISTS OBJECTS)
  execute_process(COMMAND ${NM} --undefined-only ${object} OUTPUT_VARIABLE imports ERROR_QUIET)
  foreach(symbol cuda_dialect_assert_success cuda_dialect_print_on_error)
    if(imports MATCHES " U ${symbol}\n")
      file(REMOVE ${FILE})
      message(FATAL_ERROR "${object} imports ${symbol}, which answers a CUDA error by printing"
                          " or by ending the process. Compile it so that errors are returned.")
    endif()
  endforeach()
endforeach()
