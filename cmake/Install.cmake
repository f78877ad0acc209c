# Component "python" is what goes into the wheel; everything else is the component "development".
include(CMakePackageConfigHelpers)

set(config_dir "${CMAKE_INSTALL_LIBDIR}/cmake/cudadent")
install(TARGETS cudadent cudadent_static EXPORT cudadent
    LIBRARY DESTINATION "${CMAKE_INSTALL_LIBDIR}" COMPONENT development
    ARCHIVE DESTINATION "${CMAKE_INSTALL_LIBDIR}" COMPONENT development)
install(DIRECTORY "${PROJECT_SOURCE_DIR}/include/cudadent"
    DESTINATION "${CMAKE_INSTALL_INCLUDEDIR}" COMPONENT development FILES_MATCHING PATTERN "*.h")
install(EXPORT cudadent NAMESPACE cudadent:: FILE cudadent-targets.cmake
    DESTINATION "${config_dir}" COMPONENT development)
configure_package_config_file(cmake/cudadent-config.cmake.in
    "${PROJECT_BINARY_DIR}/generated/cudadent-config.cmake" INSTALL_DESTINATION "${config_dir}")
write_basic_package_version_file(
    "${PROJECT_BINARY_DIR}/generated/cudadent-config-version.cmake" COMPATIBILITY SameMinorVersion)
install(FILES "${PROJECT_BINARY_DIR}/generated/cudadent-config.cmake"
              "${PROJECT_BINARY_DIR}/generated/cudadent-config-version.cmake"
    DESTINATION "${config_dir}" COMPONENT development)

# Where find_worker_program() looks: <prefix>/libexec/cudadent, and beside the Python module.
install(TARGETS cudadent-worker
    RUNTIME DESTINATION "${CMAKE_INSTALL_LIBEXECDIR}/cudadent" COMPONENT development)
if(CUDADENT_PYTHON)
  install(TARGETS cudadent-worker RUNTIME DESTINATION cudadent COMPONENT python)
endif()

if(TARGET cudadent-tune)
  install(TARGETS cudadent-tune RUNTIME DESTINATION "${CMAKE_INSTALL_BINDIR}" COMPONENT development)
  if(SKBUILD)
    install(TARGETS cudadent-tune
        RUNTIME DESTINATION "${SKBUILD_SCRIPTS_DIR}" COMPONENT python)
  endif()
endif()
