// Draws the page out of the JSON in #page-data. Text only ever becomes text nodes. Figures are drawn by
// Chart.js (3.7 or later, or 4) when they come into view.
"use strict";
(() => {
  const page = JSON.parse(document.getElementById("page-data").textContent);

  // ------------------------------------------------------------------------------ elements

  function element(tag, properties, ...children) {
    const node = document.createElement(tag);
    for (const [name, value] of Object.entries(properties || {})) {
      if (value === undefined || value === false) continue;
      if (name in node && name !== "list") node[name] = value;
      else node.setAttribute(name, value);
    }
    node.append(...children.filter((child) => child !== null && child !== undefined));
    return node;
  }

  const colour = (name) =>
    getComputedStyle(document.documentElement).getPropertyValue(`--${name}`).trim();

  // "#rrggbb" with an opacity.
  const faded = (hex, opacity) =>
    hex + Math.round(opacity * 255).toString(16).padStart(2, "0");

  // ------------------------------------------------------------------------------ numbers

  const digits = (value) => String(Number(value.toPrecision(3)));
  const scaled = (value, steps) => {
    const step = steps.find(([size]) => Math.abs(value) >= size) || steps[steps.length - 1];
    return `${digits(value / step[0])} ${step[1]}`;
  };
  const rates = (unit) =>
    [[1e15, "P"], [1e12, "T"], [1e9, "G"], [1e6, "M"], [1e3, "k"], [1, ""]].map(
      ([size, prefix]) => [size, prefix + unit]);
  const formats = {
    "": (value) => (Math.abs(value) >= 1e6 || (value !== 0 && Math.abs(value) < 1e-3)
      ? value.toExponential(1) : digits(value)),
    seconds: (value) => scaled(value, [[1, "s"], [1e-3, "ms"], [1e-6, "µs"], [1e-9, "ns"]]),
    "FLOP/s": (value) => scaled(value, rates("FLOP/s")),
    "B/s": (value) => scaled(value, rates("B/s")),
    percent: (value) => `${digits(value * 100)} %`,
  };
  const format = (axis, value) =>
    (value === null || value === undefined ? "–" : value === 0 && axis.unit !== "percent"
      ? "0" : formats[axis.unit](value));

  // ------------------------------------------------------------------------------ figures

  const shapes = ["circle", "triangle", "rect", "rectRot", "crossRot", "star"];
  const shapeOfTint = { good: "circle", bad: "triangle", neutral: "rect", reference: "circle" };
  const dashes = [[], [9, 3], [3, 3], [10, 3, 2, 3], [1, 4]];

  function datasetsOf(figure) {
    const counted = figure.categories.length > 0;
    const along = (position, value) => (figure.horizontal ? { x: value, y: position } : { x: position, y: value });
    const datasets = [];
    const names = [];  // series of one name share a colour: a line and its band
    for (const series of figure.series) {
      if (!series.tint && !names.includes(series.name)) names.push(series.name);
      const index = Math.max(0, names.indexOf(series.name));
      const solid = colour(series.tint || `series-${index % 8}`);
      const common = {
        label: series.name, series, borderColor: faded(solid, series.faint ? 0.55 : 1),
        backgroundColor: faded(solid, series.faint ? 0.4 : 0.85), borderWidth: 2,
      };
      const rows = series.values;
      if (series.mark === "bars" || series.mark === "boxes") {
        datasets.push({
          ...common, type: "bar", order: 3, borderWidth: 1, maxBarThickness: 44,
          backgroundColor: faded(solid, series.mark === "boxes" ? 0.35 : 0.8),
          categoryPercentage: 0.9, barPercentage: 0.92, grouped: series.mark === "bars",
          data: rows.map((row) => (series.mark === "bars" ? row[0] : row[0] === null ? null : row)),
        });
      } else if (series.mark === "ticks") {
        datasets.push({
          ...common, type: "line", order: 1, showLine: false, pointStyle: "line", pointRadius: 14,
          pointHoverRadius: 16, pointBorderWidth: 3, data: rows.map((row) => row[0]),
        });
      } else if (series.mark === "band") {
        const edge = { type: "line", order: 2, borderWidth: 0, pointRadius: 0, pointHitRadius: 0 };
        datasets.push(
          { ...common, ...edge, helper: true, fill: false, data: rows.map((row) => ({ x: row[0], y: row[1] })) },
          { ...common, ...edge, helper: true, fill: "-1", backgroundColor: faded(solid, 0.16),
            data: rows.map((row) => ({ x: row[0], y: row[2] })) });
      } else {
        const points = series.mark === "points";
        const plain = !points && (series.tint || rows.length > 40);  // a line without marks on it
        datasets.push({
          ...common, type: points ? "scatter" : "line", order: series.faint ? 2 : 0, fill: false,
          stepped: series.mark === "steps" ? "before" : false, showLine: !points,
          borderDash: series.dashed ? [6, 4] : points ? [] : dashes[index % dashes.length],
          pointStyle: plain ? "line" : shapeOfTint[series.tint] || shapes[index % shapes.length],
          clip: 8,
          pointRadius: points ? (series.faint ? 2 : 6) : plain ? 0 : 3,
          pointHoverRadius: plain ? 0 : 7, pointHitRadius: 4, borderWidth: points ? (series.faint ? 0 : 1.5) : 2,
          ...(points && counted ? (figure.horizontal ? { yAxisID: "between" } : { xAxisID: "between" }) : {}),
          data: rows.map((row) => along(row[0], row[1])),
        });
      }
    }
    return datasets;
  }

  function scaleOf(axis, options) {
    const numeric = axis.log ? "logarithmic" : "linear";
    return {
      type: numeric, min: axis.low, max: axis.high, grid: { color: colour("line") },
      title: { display: Boolean(axis.label), text: axis.label, color: colour("quiet") },
      ticks: {
        color: colour("quiet"), maxRotation: 45, autoSkipPadding: 12,
        callback(value) {
          // On a logarithmic axis one, two and five of each power are enough.
          if (axis.log) {
            const lead = value / 10 ** Math.floor(Math.log10(value) + 1e-9);
            const span = Math.log10(this.max / this.min);
            const wanted = span > 4 ? [1] : span > 0.7 ? [1, 2, 5] : [1, 1.5, 2, 3, 4, 5, 6, 7, 8, 9];
            if (!wanted.some((digit) => Math.abs(lead - digit) < 1e-6)) return null;
          }
          return format(axis, value);
        },
      },
      ...options,
    };
  }

  function scalesOf(figure) {
    const counted = figure.categories.length > 0;
    if (!counted) return { x: scaleOf(figure.x), y: scaleOf(figure.y) };
    const position = figure.horizontal ? "y" : "x";
    const value = figure.horizontal ? "x" : "y";
    const names = scaleOf(figure.x, { type: "category", offset: true, min: undefined, max: undefined,
                                      stacked: figure.stacked, grid: { display: false } });
    names.ticks = { color: colour("quiet"), maxRotation: 60, autoSkipPadding: 8,
                    autoSkip: !figure.horizontal };
    return {
      [position]: names,
      [value]: scaleOf(figure.y, { stacked: figure.stacked, beginAtZero: !figure.y.log }),
      // For points beside each other within a category.
      between: { axis: position, type: "linear", display: false, offset: false, reverse: figure.horizontal,
                 min: -0.5, max: figure.categories.length - 0.5 },
    };
  }

  function tooltipOf(figure) {
    const counted = figure.categories.length > 0;
    const value = figure.horizontal ? "x" : "y";
    return {
      filter: (item) => !item.dataset.helper,
      callbacks: {
        title: (items) => (items.length && counted && items[0].dataset.type !== "scatter"
          ? figure.categories[items[0].dataIndex] : ""),
        label(item) {
          const { series } = item.dataset;
          const label = series.labels && series.labels[item.dataIndex];
          const name = [series.name, label].filter(Boolean).join(": ");
          const row = series.values[item.dataIndex];
          if (series.mark === "boxes")
            return `${name}: ${format(figure.y, row[0])} … ${format(figure.y, row[1])}`;
          if (counted) return `${name}: ${format(figure.y, item.parsed[value])}`;
          return `${name}: ${format(figure.x, row[0])}, ${format(figure.y, row[1])}`;
        },
      },
    };
  }

  function drawChart(canvas, figure) {
    const datasets = datasetsOf(figure);
    const shown = datasets.filter((dataset) => !dataset.helper);
    const follow = (event, found, chart) => {
      const hit = found.find(({ datasetIndex, index }) => {
        const { series } = chart.data.datasets[datasetIndex];
        return series.targets && series.targets[index];
      });
      if (hit) location.hash = chart.data.datasets[hit.datasetIndex].series.targets[hit.index];
    };
    return new Chart(canvas, {
      type: figure.categories.length ? "bar" : "scatter",
      data: { labels: figure.categories.length ? figure.categories : undefined, datasets },
      options: {
        animation: false, responsive: true, maintainAspectRatio: false,
        indexAxis: figure.horizontal ? "y" : "x",
        interaction: { mode: "nearest", intersect: true },
        onClick: follow,
        scales: scalesOf(figure),
        plugins: {
          legend: {
            display: shown.length > 1, position: "bottom",
            onClick: (event, item, legend) => {
              const { chart } = legend;
              const visible = chart.isDatasetVisible(item.datasetIndex);
              const { label } = chart.data.datasets[item.datasetIndex];
              chart.data.datasets.forEach((dataset, index) => {
                if (dataset.label === label) chart.setDatasetVisibility(index, !visible);
              });
              chart.update();
            },
            labels: { color: colour("text"), usePointStyle: true, boxHeight: 7, padding: 12,
                      filter: (item, data) => !data.datasets[item.datasetIndex].helper },
          },
          tooltip: tooltipOf(figure),
        },
      },
    });
  }

  // What a figure says, in rows: for those who cannot see it, and to copy.
  function figureTable(figure) {
    const counted = figure.categories.length > 0;
    const rows = [];
    for (const series of figure.series)
      series.values.forEach((row, index) => {
        const between = counted && !["bars", "boxes", "ticks"].includes(series.mark);
        const first = counted ? figure.categories[between ? Math.round(row[0]) : index] : format(figure.x, row[0]);
        const rest = counted && !between ? row : row.slice(1);
        const label = series.labels && series.labels[index];
        rows.push([[series.name, label].filter(Boolean).join(": "), first,
                   rest.map((value) => format(figure.y, value)).join(" … ")]);
      });
    const cells = (row, tag) => element("tr", {}, ...row.map((text) => element(tag, {}, String(text))));
    return element("div", { className: "scroll" }, element("table", {},
      element("thead", {}, cells(["series", figure.x.label || "category", figure.y.label || "value"], "th")),
      element("tbody", {}, ...rows.map((row) => cells(row, "td")))));
  }

  const drawn = new Map();  // figure element → its chart and how to draw it again
  const watcher = new IntersectionObserver((entries) => {
    for (const entry of entries)
      if (entry.isIntersecting) {
        watcher.unobserve(entry.target);
        drawn.get(entry.target).draw();
      }
  }, { rootMargin: "300px" });

  function figureElement(figure) {
    const canvas = element("canvas", { role: "img" });
    canvas.setAttribute("aria-label", `${figure.title}. ${figure.caption}`);
    const frame = element("div", { className: "canvas" }, canvas);
    frame.style.height = figure.horizontal
      ? `${90 + 28 * figure.categories.length + (figure.series.length > 1 ? 70 : 0)}px`
      : figure.wide ? "380px" : "270px";
    const data = element("details", {}, element("summary", {}, "Data"));
    data.addEventListener("toggle", () => {
      if (data.open && data.childElementCount === 1) data.append(figureTable(figure));
    });
    const node = element("figure", { className: figure.wide ? "wide" : "" },
      element("h3", {}, figure.title), frame,
      element("figcaption", {}, figure.caption), data);
    const state = { chart: null, draw() {
      if (state.chart) state.chart.destroy();
      state.chart = drawChart(canvas, figure);
    } };
    drawn.set(node, state);
    watcher.observe(node);
    return node;
  }

  // ------------------------------------------------------------------------------ tables

  function compareCells(a, b) {
    if (a.order !== undefined && b.order !== undefined) return (a.order ?? Infinity) - (b.order ?? Infinity);
    return a.text.localeCompare(b.text, undefined, { numeric: true });
  }

  function tableElement(table) {
    const body = element("tbody");
    const numeric = table.headings.map((_, column) =>
      table.rows.some((row) => row[column] && row[column].order !== undefined));
    const rows = table.rows.map((row) => ({
      row, text: row.map((cell) => cell.text).join(" ").toLowerCase(),
      node: element("tr", {}, ...row.map((cell, column) =>
        element("td", { className: numeric[column] ? "number" : "" },
          cell.target ? element("a", { href: `#${cell.target}` }, cell.text) : cell.text))),
    }));
    body.append(...rows.map(({ node }) => node));
    const headings = table.headings.map((text, column) => {
      const heading = element("th", { scope: "col", className: numeric[column] ? "number" : "" });
      if (!table.interactive) {
        heading.append(text);
        return heading;
      }
      const button = element("button", { type: "button", title: "Sort" }, text);
      button.addEventListener("click", () => {
        const down = heading.getAttribute("aria-sort") === "ascending";
        headings.forEach((other) => other.removeAttribute("aria-sort"));
        heading.setAttribute("aria-sort", down ? "descending" : "ascending");
        rows.sort((a, b) => compareCells(a.row[column], b.row[column]) * (down ? -1 : 1));
        body.append(...rows.map(({ node }) => node));
      });
      heading.append(button);
      return heading;
    });
    const node = element("div", { className: "scroll" }, element("table", {},
      table.caption ? element("caption", {}, table.caption) : null,
      element("thead", {}, element("tr", {}, ...headings)), body));
    return table.interactive && rows.length > 1
      ? element("div", {}, searchElement(rows), node) : node;
  }

  // Hides the rows that lack a word of what is typed, and the sections they lead to.
  function searchElement(rows) {
    const count = element("span", { className: "quiet", role: "status" });
    const input = element("input", { type: "search", placeholder: "Filter: words that all must appear" });
    input.setAttribute("aria-label", "Filter");
    const apply = () => {
      const words = input.value.toLowerCase().split(/\s+/).filter(Boolean);
      let shown = 0;
      for (const { row, text, node } of rows) {
        node.hidden = !words.every((word) => text.includes(word));
        shown += node.hidden ? 0 : 1;
        for (const { target } of row) {
          const section = target && document.getElementById(target);
          if (section) section.hidden = node.hidden;
        }
      }
      count.textContent = `${shown} of ${rows.length}`;
    };
    input.addEventListener("input", apply);
    count.textContent = `${rows.length} of ${rows.length}`;
    return element("div", { className: "tools" }, input, count);
  }

  // ------------------------------------------------------------------------------ page

  const builders = {
    paragraph: (block) => element("p", { className: block.warning ? "warning" : "" }, block.text),
    facts: (block) => element("dl", { className: "facts" }, ...block.items.map((item) =>
      element("div", {}, element("dt", {}, item.name), element("dd", { className: "value" }, item.value),
        item.note ? element("dd", { className: "note" }, item.note) : null))),
    table: tableElement,
    figure: figureElement,
  };

  // Figures that follow each other stand side by side.
  function bodyOf(section) {
    const body = element("div", { className: "body" });
    let figures = null;
    for (const block of section.blocks) {
      const node = builders[block.kind](block);
      if (block.kind === "figure") {
        if (!figures) body.append((figures = element("div", { className: "figures" })));
        figures.append(node);
      } else {
        figures = null;
        body.append(node);
      }
    }
    return body;
  }

  function sectionElement(section) {
    const heading = [element("h2", {}, section.title),
                     section.summary ? element("span", { className: "summary" }, section.summary) : null];
    if (!section.foldable)
      return element("section", { id: section.id, className: "plain" },
        element("div", { className: "heading" }, ...heading), bodyOf(section));
    const details = element("details", {}, element("summary", {}, ...heading));
    const build = () => {
      if (details.open && details.childElementCount === 1) details.append(bodyOf(section));
    };
    details.addEventListener("toggle", build);
    details.open = !section.folded;
    build();
    return element("section", { id: section.id, className: "folding" }, details);
  }

  function openTarget() {
    const section = document.getElementById(decodeURIComponent(location.hash.slice(1)));
    if (!section) return;
    const details = section.querySelector(":scope > details");
    if (details) {
      details.open = true;
      // Its content is made when it opens; the browser has scrolled before.
      setTimeout(() => section.scrollIntoView(), 0);
    }
  }

  function foldingTools(sections) {
    const all = (open) => () => {
      for (const node of sections)
        if (!node.hidden) node.querySelector(":scope > details").open = open;
    };
    const button = (text, action) => {
      const node = element("button", { type: "button" }, text);
      node.addEventListener("click", action);
      return node;
    };
    return element("div", { className: "tools" }, button("Open all", all(true)), button("Close all", all(false)));
  }

  // ------------------------------------------------------------------------------ light and dark

  const system = matchMedia("(prefers-color-scheme: dark)");
  const remembered = () => {
    try { return localStorage.getItem("cudadent-theme"); } catch { return null; }
  };
  let chosen = remembered();
  const themeButton = element("button", { type: "button", className: "theme" });
  function applyTheme() {
    const dark = chosen ? chosen === "dark" : system.matches;
    document.documentElement.dataset.theme = dark ? "dark" : "light";
    themeButton.textContent = dark ? "Light colours" : "Dark colours";
    for (const state of drawn.values()) if (state.chart) state.draw();
  }
  themeButton.addEventListener("click", () => {
    chosen = document.documentElement.dataset.theme === "dark" ? "light" : "dark";
    try { localStorage.setItem("cudadent-theme", chosen); } catch { /* a private window */ }
    applyTheme();
  });
  system.addEventListener("change", applyTheme);

  applyTheme();
  document.querySelector("header").append(themeButton);
  const main = document.getElementById("page");
  const nodes = page.sections.map(sectionElement);
  const folding = nodes.filter((_, index) => page.sections[index].foldable);
  main.append(...nodes);
  if (folding.length > 1) folding[0].before(foldingTools(folding));
  addEventListener("hashchange", openTarget);
  addEventListener("beforeprint", () => {
    for (const state of drawn.values()) if (!state.chart) state.draw();
  });
  openTarget();
  document.documentElement.dataset.ready = "true";
})();
