# The pages that cudadent-tune writes are drawn by Chart.js, which is not part of this project: it is embedded
# from where this machine has it. Without it the program is built all the same, and says what is missing when
# it is asked for a page.
find_file(CUDADENT_CHART_JS NAMES chart.min.js chart.umd.js chart.umd.min.js Chart.min.js
    PATH_SUFFIXES share/javascript/chart.js share/nodejs/chart.js/dist
    DOC "Chart.js 3.7 or later as one script, for cudadent-tune report")
mark_as_advanced(CUDADENT_CHART_JS)
if(CUDADENT_CHART_JS AND NOT EXISTS "${CUDADENT_CHART_JS}")
  message(FATAL_ERROR "cudadent: CUDADENT_CHART_JS names ${CUDADENT_CHART_JS}, which does not exist")
elseif(NOT CUDADENT_CHART_JS)
  message(STATUS "cudadent: no Chart.js (libjs-chart.js): cudadent-tune report will not work")
endif()

# cudadent_embed_page(<variable>): sets it to the generated source that defines page_assets().
function(cudadent_embed_page variable)
  set(folder "${PROJECT_SOURCE_DIR}/cli/page")
  set(output "${PROJECT_BINARY_DIR}/generated/page_assets.cpp")
  set(script "${PROJECT_SOURCE_DIR}/cmake/embed_page.cmake")
  set(charts)
  if(CUDADENT_CHART_JS)
    set(charts "${CUDADENT_CHART_JS}")
  endif()
  add_custom_command(
      OUTPUT "${output}"
      COMMAND "${CMAKE_COMMAND}" -D "style=${folder}/page.css" -D "script=${folder}/page.js"
              -D "charts=${charts}" -D "output=${output}" -P "${script}"
      DEPENDS "${folder}/page.css" "${folder}/page.js" ${charts} "${script}"
      COMMENT "Embedding cli/page" VERBATIM)
  set(${variable} "${output}" PARENT_SCOPE)
endfunction()
