# SPDX-License-Identifier: Apache-2.0
# cmake --install: libraries, headers, the CMake package with its components, pkg-config files.
include(CMakePackageConfigHelpers)

set(package_dir ${CMAKE_INSTALL_LIBDIR}/cmake/pega)

set_target_properties(pega PROPERTIES EXPORT_NAME pega)
install(TARGETS pega EXPORT pega_core
  LIBRARY DESTINATION ${CMAKE_INSTALL_LIBDIR} ARCHIVE DESTINATION ${CMAKE_INSTALL_LIBDIR})
install(EXPORT pega_core NAMESPACE pega:: FILE pega-core-targets.cmake DESTINATION ${package_dir})
install(FILES include/pega/pega.h include/pega/cuda.h include/pega/dlpack.h include/pega/pack.h
  include/pega/qwen35.h DESTINATION ${CMAKE_INSTALL_INCLUDEDIR}/pega)

# pkg-config files say where things are from where they are themselves, so that the prefix can be
# chosen at the installation and moved after it.
set(pc_dir ${CMAKE_INSTALL_LIBDIR}/pkgconfig)
if(IS_ABSOLUTE "${pc_dir}")
  set(pc_prefix "${CMAKE_INSTALL_PREFIX}")
else()
  file(RELATIVE_PATH pc_up "/prefix/${pc_dir}" "/prefix")
  string(REGEX REPLACE "/$" "" pc_up "${pc_up}")
  set(pc_prefix "\${pcfiledir}/${pc_up}")
endif()
foreach(dir LIBDIR INCLUDEDIR)
  if(IS_ABSOLUTE "${CMAKE_INSTALL_${dir}}")
    set(pc_${dir} "${CMAKE_INSTALL_${dir}}")
  else()
    set(pc_${dir} "\${prefix}/${CMAKE_INSTALL_${dir}}")
  endif()
endforeach()
# Who links a static library links the parsers of kernel packs himself.
set(pc_requires "")
if(PEGA_LIBRARY_TYPE STREQUAL "STATIC")
  set(pc_requires "libcjson libelf nettle")
endif()
configure_file(cmake/pega.pc.in ${PROJECT_BINARY_DIR}/pega.pc @ONLY)
install(FILES ${PROJECT_BINARY_DIR}/pega.pc DESTINATION ${CMAKE_INSTALL_LIBDIR}/pkgconfig)

set_target_properties(pega_artifact PROPERTIES EXPORT_NAME artifact)
install(TARGETS pega_artifact EXPORT pega_artifact
  LIBRARY DESTINATION ${CMAKE_INSTALL_LIBDIR} ARCHIVE DESTINATION ${CMAKE_INSTALL_LIBDIR})
install(EXPORT pega_artifact NAMESPACE pega:: FILE pega-artifact-targets.cmake DESTINATION ${package_dir})
install(FILES include/pega/artifact.h DESTINATION ${CMAKE_INSTALL_INCLUDEDIR}/pega)
set(pc_requires "")
if(PEGA_LIBRARY_TYPE STREQUAL "STATIC")
  set(pc_requires "libelf")
endif()
configure_file(cmake/pega_artifact.pc.in ${PROJECT_BINARY_DIR}/pega_artifact.pc @ONLY)
install(FILES ${PROJECT_BINARY_DIR}/pega_artifact.pc DESTINATION ${CMAKE_INSTALL_LIBDIR}/pkgconfig)

set_target_properties(pega_cublas PROPERTIES EXPORT_NAME cublas)
install(TARGETS pega_cublas EXPORT pega_cublas
  LIBRARY DESTINATION ${CMAKE_INSTALL_LIBDIR} ARCHIVE DESTINATION ${CMAKE_INSTALL_LIBDIR})
install(EXPORT pega_cublas NAMESPACE pega:: FILE pega-cublas-targets.cmake DESTINATION ${package_dir})
install(FILES include/pega/cublas.h DESTINATION ${CMAKE_INSTALL_INCLUDEDIR}/pega)
configure_file(cmake/pega_cublas.pc.in ${PROJECT_BINARY_DIR}/pega_cublas.pc @ONLY)
install(FILES ${PROJECT_BINARY_DIR}/pega_cublas.pc DESTINATION ${CMAKE_INSTALL_LIBDIR}/pkgconfig)

if(PEGA_TVM_FFI)
  set_target_properties(pega_tvm_ffi PROPERTIES EXPORT_NAME tvm_ffi)
  install(TARGETS pega_tvm_ffi EXPORT pega_tvm_ffi
    LIBRARY DESTINATION ${CMAKE_INSTALL_LIBDIR} ARCHIVE DESTINATION ${CMAKE_INSTALL_LIBDIR})
  install(EXPORT pega_tvm_ffi NAMESPACE pega:: FILE pega-tvm_ffi-targets.cmake DESTINATION ${package_dir})
  install(FILES include/pega/tvm_ffi.h DESTINATION ${CMAKE_INSTALL_INCLUDEDIR}/pega)
  configure_file(cmake/pega_tvm_ffi.pc.in ${PROJECT_BINARY_DIR}/pega_tvm_ffi.pc @ONLY)
  install(FILES ${PROJECT_BINARY_DIR}/pega_tvm_ffi.pc DESTINATION ${CMAKE_INSTALL_LIBDIR}/pkgconfig)
endif()

configure_package_config_file(cmake/pega-config.cmake.in ${PROJECT_BINARY_DIR}/pega-config.cmake
  INSTALL_DESTINATION ${package_dir})
write_basic_package_version_file(${PROJECT_BINARY_DIR}/pega-config-version.cmake
  COMPATIBILITY SameMinorVersion)
install(FILES ${PROJECT_BINARY_DIR}/pega-config.cmake ${PROJECT_BINARY_DIR}/pega-config-version.cmake
  DESTINATION ${package_dir})
if(PEGA_LIBRARY_TYPE STREQUAL "STATIC")
  install(FILES cmake/PegaParsers.cmake DESTINATION ${package_dir})
endif()
install(FILES cmake/PegaPack.cmake DESTINATION ${package_dir})
# What belongs to the peers of `pega bench`, which bench/peers installs.
install(FILES docs/benchmark-peers.md DESTINATION ${CMAKE_INSTALL_DOCDIR}/docs)
if(TARGET bench_cubin_launcher)
  install(TARGETS bench_cubin_launcher LIBRARY DESTINATION ${CMAKE_INSTALL_DATADIR}/pega/bench)
endif()
# What modules of CuTe DSL objects are linked with.
install(TARGETS pega_cute_runtime EXPORT pega_cute ARCHIVE DESTINATION ${CMAKE_INSTALL_LIBDIR})
install(EXPORT pega_cute NAMESPACE pega:: FILE pega-cute-targets.cmake DESTINATION ${package_dir})
install(FILES cmake/PegaCute.cmake cmake/PegaCuteCheck.cmake DESTINATION ${package_dir})
install(FILES include/pega/cute_module.h DESTINATION ${CMAKE_INSTALL_INCLUDEDIR}/pega)
install(FILES docs/pack.schema.json docs/c-library.schema.json docs/choices.schema.json docs/bench.schema.json
  DESTINATION ${CMAKE_INSTALL_DATADIR}/pega)
install(FILES kernels/choices/qwen35-prefill-sm_90.json
  DESTINATION ${CMAKE_INSTALL_DATADIR}/pega/choices)
install(FILES LICENSE README.md DESTINATION ${CMAKE_INSTALL_DOCDIR})
# Where README.md links to.
install(FILES docs/artifacts.md docs/benchmark.md docs/c-library.md docs/contract.md docs/cublas.md docs/cute.md
  docs/dsls.md docs/export.md docs/functions.md docs/packs.md docs/performance.md docs/plans.md docs/tuning.md
  DESTINATION ${CMAKE_INSTALL_DOCDIR}/docs)
install(DIRECTORY docs/charts DESTINATION ${CMAKE_INSTALL_DOCDIR}/docs)
