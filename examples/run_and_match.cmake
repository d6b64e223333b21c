# SPDX-License-Identifier: Apache-2.0
# cmake -D PROGRAM=... -D EXPECT="expression@@expression" -P run_and_match.cmake
# PEGA_EXAMPLE_PACK in the environment names a pack that the program needs.
if(DEFINED ENV{PEGA_EXAMPLE_PACK})
  if(NOT EXISTS "$ENV{PEGA_EXAMPLE_PACK}")
    message("SKIP: $ENV{PEGA_EXAMPLE_PACK} is not there; ./dev kernels makes it")
    return()
  endif()
  set(ENV{PEGA_PACK_PATH} "$ENV{PEGA_EXAMPLE_PACK}")
endif()
execute_process(COMMAND ${PROGRAM} RESULT_VARIABLE result OUTPUT_VARIABLE output
  ERROR_VARIABLE output)
message("${output}")
if(NOT result EQUAL 0)
  message(FATAL_ERROR "${PROGRAM} ended with ${result}")
endif()
string(REPLACE "@@" ";" expressions "${EXPECT}")
foreach(expression IN LISTS expressions)
  if(NOT output MATCHES "${expression}")
    message(FATAL_ERROR "nothing in the output matches: ${expression}")
  endif()
endforeach()
