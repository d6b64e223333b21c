# SPDX-License-Identifier: Apache-2.0
# The libraries that pega's own use, as targets. Used by the build and, where pega is a static
# library, by the projects that find it: whoever links it links these.

# pega_find_parser(target PREFIX library header package REQUIRED|OPTIONAL PURPOSE): the interface target
# `target`. PREFIX_INCLUDE_DIR and PREFIX_LIBRARY say where it is; OPTIONAL does without the library.
function(pega_find_parser target prefix library header package need purpose)
  if(TARGET ${target})
    return()
  endif()
  find_path(${prefix}_INCLUDE_DIR ${header})
  find_library(${prefix}_LIBRARY ${library})
  mark_as_advanced(${prefix}_INCLUDE_DIR ${prefix}_LIBRARY)
  if(NOT ${prefix}_INCLUDE_DIR OR (need STREQUAL "REQUIRED" AND NOT ${prefix}_LIBRARY))
    message(FATAL_ERROR "pega needs lib${library} ${purpose}, and it was not found: install "
      "it (Debian, Ubuntu: apt-get install ${package}), or set ${prefix}_INCLUDE_DIR and ${prefix}_LIBRARY")
  endif()
  add_library(${target} INTERFACE IMPORTED GLOBAL)
  set_target_properties(${target} PROPERTIES INTERFACE_INCLUDE_DIRECTORIES "${${prefix}_INCLUDE_DIR}")
  if(${prefix}_LIBRARY)
    set_target_properties(${target} PROPERTIES INTERFACE_LINK_LIBRARIES "${${prefix}_LIBRARY}")
  else()
    set_target_properties(${target} PROPERTIES INTERFACE_LINK_LIBRARIES ${library})
  endif()
endfunction()

# All of them: JSON, ELF, SHA-256.
function(pega_find_parsers need)
  pega_find_parser(pega::libcjson LIBCJSON cjson cjson/cJSON.h libcjson-dev ${need} "to read kernel packs")
  pega_find_parser(pega::libelf LIBELF elf gelf.h libelf-dev ${need} "to read kernel packs")
  pega_find_parser(pega::nettle NETTLE nettle nettle/sha2.h nettle-dev ${need} "to read kernel packs")
endfunction()
