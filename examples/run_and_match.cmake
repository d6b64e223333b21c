# SPDX-License-Identifier: Apache-2.0
# cmake -D PROGRAM=... -D EXPECT="expression@@expression" -P run_and_match.cmake
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
