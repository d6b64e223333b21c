# SPDX-License-Identifier: Apache-2.0
# The conversation in both directions, with C, Python and C++ as the other side. `ctest -R
# tvm_ffi_bidirectional` runs these alone.

add_library(tvm_ffi_engine SHARED engine_fixture.c)
pega_compile_options(tvm_ffi_engine)
set_target_properties(tvm_ffi_engine PROPERTIES C_VISIBILITY_PRESET hidden)
target_link_libraries(tvm_ffi_engine PUBLIC pega_tvm_ffi PRIVATE Threads::Threads)
target_include_directories(tvm_ffi_engine PUBLIC ${CMAKE_CURRENT_SOURCE_DIR})

# ---- C alone ----------------------------------------------------------------------------------

add_executable(tvm_ffi_bidirectional_c tvm_ffi_bidirectional.c)
pega_compile_options(tvm_ffi_bidirectional_c)
target_link_libraries(tvm_ffi_bidirectional_c PRIVATE tvm_ffi_engine)
target_compile_definitions(tvm_ffi_bidirectional_c PRIVATE
  PEGA_TEST_FIXTURE="$<TARGET_FILE:fixture>")
add_dependencies(tvm_ffi_bidirectional_c fixture)
add_test(NAME tvm_ffi_bidirectional.c COMMAND tvm_ffi_bidirectional_c)
set_tests_properties(tvm_ffi_bidirectional.c PROPERTIES SKIP_RETURN_CODE 77 TIMEOUT 120
  ENVIRONMENT "${environment}")

# ---- Python -----------------------------------------------------------------------------------

# Python itself is not instrumented: a sanitizer's runtime must be loaded before it. Its own leaks
# and races are not ours to judge.
set(python_environment
  "PYTHONDONTWRITEBYTECODE=1"
  "PEGA_TEST_ENGINE=$<TARGET_FILE:tvm_ffi_engine>"
  "PEGA_TEST_FIXTURE=$<TARGET_FILE:fixture>")
set(no_python "")
if(NOT PEGA_PYTHON)
  set(no_python "no Python with tvm_ffi and numpy is named in PEGA_PYTHON")
elseif(PEGA_SANITIZE AND NOT CMAKE_C_COMPILER_ID STREQUAL "GNU")
  set(no_python "Python can only load sanitized libraries whose runtime is shared, as gcc makes them")
elseif(PEGA_SANITIZE)
  set(preload "")
  if(PEGA_SANITIZE MATCHES "address")
    set(runtimes libasan.so libstdc++.so)
    list(APPEND python_environment "ASAN_OPTIONS=detect_leaks=0:strict_string_checks=1")
  elseif(PEGA_SANITIZE MATCHES "thread")
    set(runtimes libtsan.so libstdc++.so)
    list(APPEND python_environment
      "TSAN_OPTIONS=halt_on_error=1:ignore_noninstrumented_modules=1:suppressions=${PROJECT_SOURCE_DIR}/tests/tsan.supp")
  endif()
  foreach(runtime IN LISTS runtimes)
    execute_process(COMMAND ${CMAKE_C_COMPILER} -print-file-name=${runtime}
      OUTPUT_VARIABLE path OUTPUT_STRIP_TRAILING_WHITESPACE)
    file(REAL_PATH "${path}" path)
    list(APPEND preload ${path})
  endforeach()
  list(JOIN preload ":" preload)
  list(APPEND python_environment "LD_PRELOAD=${preload}")
endif()

if(no_python)
  add_test(NAME tvm_ffi.property_gdr COMMAND sh -c "echo 'SKIP: ${no_python}'; exit 77")
  add_test(NAME tvm_ffi_bidirectional.python COMMAND sh -c "echo 'SKIP: ${no_python}'; exit 77")
  add_test(NAME tvm_ffi_bidirectional.torch COMMAND sh -c "echo 'SKIP: ${no_python}'; exit 77")
  add_test(NAME tvm_ffi.installed COMMAND sh -c "echo 'SKIP: ${no_python}'; exit 77")
else()
  add_test(NAME tvm_ffi_bidirectional.python
    COMMAND ${PEGA_PYTHON} ${CMAKE_CURRENT_SOURCE_DIR}/run_client.py
      ${CMAKE_CURRENT_SOURCE_DIR}/tvm_ffi_bidirectional.py)
  # $PEGA_TORCH_PYTHON, if set when the tests run, is an interpreter that has torch.
  add_test(NAME tvm_ffi_bidirectional.torch
    COMMAND sh -c "exec \"\${PEGA_TORCH_PYTHON:-$0}\" \"$@\"" ${PEGA_PYTHON}
      ${CMAKE_CURRENT_SOURCE_DIR}/run_client.py
      ${CMAKE_CURRENT_SOURCE_DIR}/tvm_ffi_bidirectional_torch.py --need torch)
  # Random calls of the gated delta rule; PEGA_TEST_SEED has another seed than the one it prints.
  add_test(NAME tvm_ffi.property_gdr
    COMMAND ${PEGA_PYTHON} ${CMAKE_CURRENT_SOURCE_DIR}/run_client.py
      ${CMAKE_CURRENT_SOURCE_DIR}/property_gdr.py --need hypothesis)
  # What is loaded here is what `cmake --install` puts into a folder.
  set(prefix ${CMAKE_CURRENT_BINARY_DIR}/installed)
  add_test(NAME tvm_ffi.install
    COMMAND ${CMAKE_COMMAND} --install ${PROJECT_BINARY_DIR} --prefix ${prefix})
  add_test(NAME tvm_ffi.installed
    COMMAND ${PEGA_PYTHON} ${CMAKE_CURRENT_SOURCE_DIR}/run_client.py
      ${CMAKE_CURRENT_SOURCE_DIR}/tvm_ffi_installed.py)
  set_tests_properties(tvm_ffi.install PROPERTIES TIMEOUT 120
    FIXTURES_SETUP pega_installed_for_python)
  set_tests_properties(tvm_ffi.installed PROPERTIES
    FIXTURES_REQUIRED pega_installed_for_python)
  execute_process(COMMAND ${PEGA_PYTHON} -c "import sysconfig; print(sysconfig.get_path('platlib'))"
    OUTPUT_VARIABLE site_packages OUTPUT_STRIP_TRAILING_WHITESPACE)
  list(APPEND python_environment "PEGA_TEST_SITE_PACKAGES=${site_packages}")
endif()
set(few_examples "")
if(PEGA_SANITIZE)
  set(few_examples ";PEGA_TEST_EXAMPLES=24")
endif()
set_tests_properties(tvm_ffi.property_gdr PROPERTIES SKIP_RETURN_CODE 77 TIMEOUT 600
  ENVIRONMENT "${python_environment};PEGA_TEST_BRIDGE=$<TARGET_LINKER_FILE:pega_tvm_ffi>${few_examples}")
set_tests_properties(tvm_ffi_bidirectional.python tvm_ffi_bidirectional.torch PROPERTIES
  SKIP_RETURN_CODE 77 TIMEOUT 600
  ENVIRONMENT "${python_environment};PEGA_TEST_BRIDGE=$<TARGET_LINKER_FILE:pega_tvm_ffi>")
set_tests_properties(tvm_ffi.installed PROPERTIES SKIP_RETURN_CODE 77 TIMEOUT 600
  ENVIRONMENT "${python_environment};PEGA_TEST_BRIDGE=${prefix}/${CMAKE_INSTALL_LIBDIR}/libpega_tvm_ffi.so")

# ---- C++ --------------------------------------------------------------------------------------

include(CheckLanguage)
check_language(CXX)
if(CMAKE_CXX_COMPILER AND EXISTS "${PEGA_TVM_FFI_LIBRARY_FILE}")
  enable_language(CXX)
  add_executable(tvm_ffi_bidirectional_cpp tvm_ffi_bidirectional.cpp)
  pega_compile_options(tvm_ffi_bidirectional_cpp)
  if(PEGA_SANITIZE MATCHES "thread" AND CMAKE_CXX_COMPILER_ID STREQUAL "GNU")
    # TVM FFI's headers use fences, which ThreadSanitizer does not see; this client has one thread
    # but for those that end before it goes on.
    target_compile_options(tvm_ffi_bidirectional_cpp PRIVATE -Wno-tsan)
  endif()
  target_include_directories(tvm_ffi_bidirectional_cpp SYSTEM PRIVATE ${PEGA_TVM_FFI_INCLUDE_DIR})
  target_link_libraries(tvm_ffi_bidirectional_cpp PRIVATE tvm_ffi_engine
    ${PEGA_TVM_FFI_LIBRARY_FILE})
  add_test(NAME tvm_ffi_bidirectional.cpp COMMAND tvm_ffi_bidirectional_cpp)
else()
  add_test(NAME tvm_ffi_bidirectional.cpp
    COMMAND sh -c "echo 'SKIP: no C++ compiler, or no libtvm_ffi.so to link it with'; exit 77")
endif()
set_tests_properties(tvm_ffi_bidirectional.cpp PROPERTIES SKIP_RETURN_CODE 77 TIMEOUT 120
  ENVIRONMENT "${environment}")
