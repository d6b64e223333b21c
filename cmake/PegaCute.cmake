# SPDX-License-Identifier: Apache-2.0
#[[
Links objects that CuTe DSL exported into a module that needs neither Python nor CuTe DSL's runtime library:

    find_package(pega REQUIRED)
    pega_cute_module(rms_norm OBJECTS rms_norm.o)
    pega_cute_module(engine KIND c OBJECTS scale.o SOURCES scale.c EXPORTS engine_scale)

KIND tvm_ffi (where none is given) is for objects compiled with --enable-tvm-ffi; the module exports their
`__tvm_ffi_<name>` functions. KIND c is for objects of the plain C export, whose functions want arrays of
pointers: SOURCES give them C functions (pega/cute_module.h has what they need), and EXPORTS names what
the module shows of those.

Linked in are pega::cute_runtime (what objects import beyond the static library of CuTe DSL's wheel), that
static library, and CUDA's runtime as a static library. They are found in the packages of the Python in
PEGA_CUTE_PYTHON (nvidia-cutlass-dsl, nvidia-cuda-runtime) or in the CUDA toolkit, or where
PEGA_CUTE_DIALECT_LIBRARY and PEGA_CUTE_CUDART_LIBRARY say. No code of either is kept in pega.

A module needs libc and, of KIND tvm_ffi, TVM FFI's C functions at run time; CUDA's driver is opened at its
first call. What else an object imports is an error of the build that names the symbol.
#]]

set(PEGA_CUTE_PYTHON "" CACHE FILEPATH "Python that has nvidia-cutlass-dsl, for pega_cute_module")
set(PEGA_CUTE_DIALECT_LIBRARY "" CACHE FILEPATH
    "libcuda_dialect_runtime_static.a of nvidia-cutlass-dsl; found by PEGA_CUTE_PYTHON where empty")
set(PEGA_CUTE_CUDART_LIBRARY "" CACHE FILEPATH
    "libcudart_static.a; found by PEGA_CUTE_PYTHON or in the CUDA toolkit where empty")
set(pega_cute_dir "${CMAKE_CURRENT_LIST_DIR}")

# The file `pattern` in the packages of PEGA_CUTE_PYTHON, whatever of CUDA they are for.
function(pega_cute_from_python out package pattern)
  set(${out} "" PARENT_SCOPE)
  if(NOT PEGA_CUTE_PYTHON)
    return()
  endif()
  execute_process(
    COMMAND ${PEGA_CUTE_PYTHON} -c "
import importlib.util, pathlib
spec = importlib.util.find_spec('${package}')
places = spec.submodule_search_locations if spec else ()
found = sorted(path for place in places for path in pathlib.Path(place).glob('${pattern}'))
print(found[-1] if found else '', end='')"
    OUTPUT_VARIABLE found RESULT_VARIABLE status ERROR_VARIABLE text)
  if(NOT status EQUAL 0)
    message(FATAL_ERROR "pega_cute_module: PEGA_CUTE_PYTHON, ${PEGA_CUTE_PYTHON}, could not be asked for "
                        "its packages: ${text}")
  endif()
  set(${out} "${found}" PARENT_SCOPE)
endfunction()

# Sets pega_cute_libraries to the two static libraries, in the order in which they are linked.
function(pega_cute_find_libraries)
  set(dialect "${PEGA_CUTE_DIALECT_LIBRARY}")
  if(NOT dialect)
    pega_cute_from_python(dialect nvidia_cutlass_dsl "cu*/lib/libcuda_dialect_runtime_static.a")
  endif()
  if(NOT dialect)
    message(FATAL_ERROR "pega_cute_module: libcuda_dialect_runtime_static.a not found: set PEGA_CUTE_PYTHON to a "
                        "Python that has nvidia-cutlass-dsl, or PEGA_CUTE_DIALECT_LIBRARY to the file; "
                        "PEGA_CUTE_PYTHON is '${PEGA_CUTE_PYTHON}'")
  endif()
  set(cudart "${PEGA_CUTE_CUDART_LIBRARY}")
  if(NOT cudart)
    pega_cute_from_python(cudart nvidia "cu*/lib/libcudart_static.a")
  endif()
  if(NOT cudart)
    pega_cute_from_python(cudart nvidia "cuda_runtime/lib/libcudart_static.a")
  endif()
  if(NOT cudart)
    file(GLOB toolkits /usr/local/cuda/lib64 /usr/local/cuda/targets/*/lib)
    find_library(pega_cute_cudart_found libcudart_static.a
      HINTS ENV CUDA_PATH ENV CUDA_HOME PATHS ${toolkits} PATH_SUFFIXES lib64 lib NO_CACHE)
    if(pega_cute_cudart_found)
      set(cudart "${pega_cute_cudart_found}")
    endif()
  endif()
  if(NOT cudart)
    message(FATAL_ERROR "pega_cute_module: libcudart_static.a not found: install nvidia-cuda-runtime for "
                        "PEGA_CUTE_PYTHON or the CUDA toolkit, or set PEGA_CUTE_CUDART_LIBRARY to the file")
  endif()
  foreach(file IN ITEMS "${dialect}" "${cudart}")
    if(NOT EXISTS "${file}")
      message(FATAL_ERROR "pega_cute_module: ${file} is not there")
    endif()
  endforeach()
  set(pega_cute_libraries "${dialect}" "${cudart}" PARENT_SCOPE)
endfunction()

function(pega_cute_module target)
  cmake_parse_arguments(PARSE_ARGV 1 ARG "" "KIND" "OBJECTS;SOURCES;EXPORTS")
  set(usage "expected pega_cute_module(<target> OBJECTS <file>... [KIND tvm_ffi|c] [SOURCES <file>...] [EXPORTS <symbol>...])")
  if(ARG_UNPARSED_ARGUMENTS)
    message(FATAL_ERROR "pega_cute_module(${target}): unknown arguments: ${ARG_UNPARSED_ARGUMENTS}; ${usage}")
  endif()
  if(NOT ARG_OBJECTS)
    message(FATAL_ERROR "pega_cute_module(${target}): no OBJECTS; ${usage}")
  endif()
  if(NOT ARG_KIND)
    set(ARG_KIND tvm_ffi)
  endif()
  if(NOT ARG_KIND MATCHES "^(tvm_ffi|c)$")
    message(FATAL_ERROR "pega_cute_module(${target}): KIND is '${ARG_KIND}'; ${usage}")
  endif()
  if(ARG_KIND STREQUAL "c" AND NOT ARG_EXPORTS)
    message(FATAL_ERROR "pega_cute_module(${target}): a module of KIND c names in EXPORTS what it shows of its "
                        "SOURCES: an object of the plain C export has no function that C can call as it is")
  endif()
  get_property(languages GLOBAL PROPERTY ENABLED_LANGUAGES)
  if(NOT "C" IN_LIST languages)
    message(FATAL_ERROR "pega_cute_module(${target}): the project does not enable C")
  endif()
  if(NOT CMAKE_NM)
    message(FATAL_ERROR "pega_cute_module(${target}): nm not found, which the check of the module needs; set CMAKE_NM")
  endif()
  pega_cute_find_libraries()

  set(objects "")
  foreach(object IN LISTS ARG_OBJECTS)
    get_filename_component(path "${object}" ABSOLUTE BASE_DIR "${CMAKE_CURRENT_SOURCE_DIR}")
    get_source_file_property(generated "${path}" GENERATED)
    if(NOT EXISTS "${path}" AND NOT generated)
      message(FATAL_ERROR "pega_cute_module(${target}): ${path} is not there, and nothing in this folder makes it")
    endif()
    list(APPEND objects "${path}")
  endforeach()
  set_source_files_properties(${objects} PROPERTIES EXTERNAL_OBJECT TRUE)

  # Nothing is shown but what is asked for: two modules in a process share no code, of any release.
  set(shown ${ARG_EXPORTS})
  if(ARG_KIND STREQUAL "tvm_ffi")
    list(APPEND shown "__tvm_ffi_*")
  endif()
  list(JOIN shown "; " shown)
  set(map "${CMAKE_CURRENT_BINARY_DIR}/${target}.map")
  file(CONFIGURE OUTPUT "${map}" CONTENT "{ global: @shown@; local: *; };\n" @ONLY)

  # An object alone gives the linker no language to go by.
  set(sources ${ARG_SOURCES})
  add_library(${target} MODULE ${objects} ${sources})
  set_target_properties(${target} PROPERTIES
    LINKER_LANGUAGE C PREFIX "" C_VISIBILITY_PRESET hidden POSITION_INDEPENDENT_CODE ON
    LINK_DEPENDS "${map}")
  find_package(Threads REQUIRED)
  target_link_libraries(${target} PRIVATE pega::cute_runtime ${pega_cute_libraries} Threads::Threads
    ${CMAKE_DL_LIBS} $<$<PLATFORM_ID:Linux>:rt>)
  target_link_options(${target} PRIVATE -Wl,--version-script=${map} -Wl,--gc-sections -Wl,--as-needed
    -Wl,-z,noexecstack)
  add_custom_command(TARGET ${target} POST_BUILD
    COMMAND ${CMAKE_COMMAND} -DKIND=${ARG_KIND} -DFILE=$<TARGET_FILE:${target}> -DNM=${CMAKE_NM}
      "-DOBJECTS=${objects}" -P ${pega_cute_dir}/PegaCuteCheck.cmake
    VERBATIM)
endfunction()
