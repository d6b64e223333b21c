# SPDX-License-Identifier: Apache-2.0
# What every target of the project is compiled with.

function(pega_compile_options target)
  set_target_properties(${target} PROPERTIES C_STANDARD 11 C_STANDARD_REQUIRED ON C_EXTENSIONS OFF
                        CXX_STANDARD 17 CXX_STANDARD_REQUIRED ON)
  target_compile_definitions(${target} PRIVATE _GNU_SOURCE)
  target_compile_options(${target} PRIVATE -Wall -Wextra -Wpedantic -Wshadow
    $<$<COMPILE_LANGUAGE:C>:-Wconversion -Wstrict-prototypes -Wmissing-prototypes>)
  # Valgrind before 3.20 cannot read clang's DWARF 5.
  target_compile_options(${target} PRIVATE $<$<COMPILE_LANG_AND_ID:C,Clang>:-gdwarf-4>
    $<$<COMPILE_LANG_AND_ID:CXX,Clang>:-gdwarf-4>)
  if(PEGA_WERROR)
    target_compile_options(${target} PRIVATE -Werror)
  endif()
  if(PEGA_SANITIZE)
    target_compile_options(${target} PRIVATE -fsanitize=${PEGA_SANITIZE} -fno-omit-frame-pointer
                           -fno-sanitize-recover=all)
    target_link_options(${target} PRIVATE -fsanitize=${PEGA_SANITIZE})
  endif()
endfunction()

# A library of the project: hidden by default, symbols by `map`, found as pega::<component>.
function(pega_library target map)
  pega_compile_options(${target})
  set_target_properties(${target} PROPERTIES
    C_VISIBILITY_PRESET hidden
    POSITION_INDEPENDENT_CODE ON
    VERSION ${PROJECT_VERSION}
    SOVERSION 0
    LIBRARY_OUTPUT_DIRECTORY ${PROJECT_BINARY_DIR}/lib
    ARCHIVE_OUTPUT_DIRECTORY ${PROJECT_BINARY_DIR}/lib
    INSTALL_RPATH "$ORIGIN")
  target_include_directories(${target}
    PUBLIC $<BUILD_INTERFACE:${PROJECT_SOURCE_DIR}/include> $<INSTALL_INTERFACE:${CMAKE_INSTALL_INCLUDEDIR}>
    PRIVATE ${PROJECT_SOURCE_DIR}/src)
  get_target_property(type ${target} TYPE)
  if(type STREQUAL "SHARED_LIBRARY")
    # A sanitizer's runtime is left undefined in shared libraries.
    if(NOT PEGA_SANITIZE)
      target_link_options(${target} PRIVATE -Wl,-z,defs)
    endif()
    # A library's calls of its own functions are not to be redirected: that makes them plain calls.
    target_compile_options(${target} PRIVATE -fno-semantic-interposition)
    target_link_options(${target} PRIVATE -Wl,-Bsymbolic-functions)
    # What nothing in the library calls (implementations by name are for tests) stays out of it.
    target_compile_options(${target} PRIVATE -ffunction-sections -fdata-sections)
    target_link_options(${target} PRIVATE -Wl,--gc-sections -Wl,--hash-style=gnu)
    target_link_options(${target} PRIVATE -Wl,--version-script=${PROJECT_SOURCE_DIR}/${map} -Wl,--as-needed)
    set_target_properties(${target} PROPERTIES LINK_DEPENDS ${PROJECT_SOURCE_DIR}/${map})
  else()
    target_compile_definitions(${target} PUBLIC PEGA_STATIC)
  endif()
endfunction()
