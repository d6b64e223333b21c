# SPDX-License-Identifier: Apache-2.0
# The balance under valgrind, with fewer rounds: it counts every block by itself.

find_program(VALGRIND valgrind)
if(PEGA_SANITIZE)
  set(no_valgrind "valgrind does not run programs that a sanitizer watches")
elseif(NOT VALGRIND)
  set(no_valgrind "valgrind is not installed")
endif()

foreach(name balance import error)
  if(no_valgrind)
    add_test(NAME tvm_ffi.valgrind.${name}
      COMMAND sh -c "echo 'SKIP: ${no_valgrind}'; exit 77")
  else()
    add_test(NAME tvm_ffi.valgrind.${name}
      COMMAND ${VALGRIND} --quiet --error-exitcode=9 --leak-check=full --errors-for-leak-kinds=definite
        --show-leak-kinds=definite
        $<TARGET_FILE:tvm_ffi_test_${name}> 200)
  endif()
  set_tests_properties(tvm_ffi.valgrind.${name} PROPERTIES SKIP_RETURN_CODE 77 TIMEOUT 900)
endforeach()
