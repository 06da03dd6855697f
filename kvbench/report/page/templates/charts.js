"use strict";
// Charts: drawn when they come into view, in the theme's colours, over the rows that the filters leave.
const charts = (() => {
  const figures = JSON.parse(document.getElementById("figures").textContent);
  const drawn = new Set();
  const words = JSON.parse(document.getElementById("words").textContent);
  const options = { displayModeBar: false, responsive: true };
  const GROUPED_FROM = 4; // points of one length and one line that are drawn as their median
  const NARROW_PX = 560; // below it a label takes a line for each of its parts
  let shown = null; // row number to its place in the table; null: all of them, in their own order

  // A sentence of the page's language with its figures.
  const tell = (code, figures = {}) => words[code].replace(/\{(\w+)\}/g, (_, name) => figures[name]);

  // The stylesheet owns the colours; what it resolves to in the current theme is read back from the chart's box.
  function themed(figure, box) {
    const style = getComputedStyle(box);
    const [text, line, page] = [style.color, style.borderTopColor, style.backgroundColor];
    const colours = { gridcolor: line, linecolor: line, zerolinecolor: line, tickcolor: line };
    const axis = (own) => ({ automargin: true, ...colours, ...own, title: { standoff: 10, ...own.title, font: { size: 13 } } });
    const axes = Object.keys(figure.layout).filter((name) => /^[xy]axis\d*$/.test(name));
    const layout = {
      ...figure.layout,
      paper_bgcolor: "rgba(0,0,0,0)",
      plot_bgcolor: "rgba(0,0,0,0)",
      font: { family: style.fontFamily, size: 13, color: text },
      hoverlabel: { bgcolor: page, bordercolor: line, font: { color: text } },
      ...Object.fromEntries(["xaxis", "yaxis", ...axes].map((name) => [name, axis(figure.layout[name] ?? {})])),
    };
    const isDark = page.match(/\d+/g).slice(0, 3).reduce((sum, each) => sum + Number(each), 0) < 384;
    const data = figure.data.map((trace) => {
      const whiskers = {};
      // Faint dots that can be told from white are lost on black.
      if (isDark && 0 < trace.marker?.opacity && trace.marker.opacity < 1) {
        const { opacity, size } = trace.marker;
        whiskers.marker = { ...trace.marker, opacity: Math.min(1, 2 * opacity), size: size + 1 };
      }
      for (const name of ["error_x", "error_y"]) {
        if (trace[name]) whiskers[name] = { ...trace[name], color: text };
      }
      return isDark ? lit({ ...trace, ...whiskers }) : { ...trace, ...whiskers };
    });
    return { data, layout };
  }

  // The colours of arms as they are on a dark page.
  const onDark = JSON.parse(document.getElementById("on-dark").textContent);
  function lit(value) {
    if (Array.isArray(value)) return typeof value[0] === "string" ? value.map((each) => onDark[each] ?? each) : value;
    if (value === null || typeof value !== "object") return onDark[value] ?? value;
    const own = ["line", "marker", "pattern", "color", "fgcolor"].filter((name) => name in value);
    return { ...value, ...Object.fromEntries(own.map((name) => [name, lit(value[name])])) };
  }

  const place = (rows) => Math.min(...[].concat(rows).map((row) => (shown === null ? row : (shown.get(row) ?? Infinity))));

  function picked(trace, indices) {
    const pick = (values) => (Array.isArray(values) ? indices.map((index) => values[index]) : values);
    const copy = { ...trace, meta: { rows: pick(trace.meta.rows), run: pick(trace.meta.run) } };
    for (const name of ["x", "y", "customdata", "text"]) if (trace[name]) copy[name] = pick(trace[name]);
    for (const name of ["error_x", "error_y"]) {
      if (trace[name]) copy[name] = { ...trace[name], array: pick(trace[name].array), arrayminus: pick(trace[name].arrayminus) };
    }
    return copy;
  }

  // Points of one length become their median, with whiskers from the least to the most.
  function grouped(trace) {
    const groups = new Map();
    trace.x.forEach((x, index) => (groups.get(x) ?? groups.set(x, []).get(x)).push(index));
    if (![...groups.values()].some((group) => group.length >= GROUPED_FROM)) return trace;
    const lengths = [...groups.keys()].sort((a, b) => a - b);
    const sorted = lengths.map((x) => groups.get(x).map((index) => trace.y[index]).sort((a, b) => a - b));
    const middle = sorted.map((ys) => (ys[(ys.length - 1) >> 1] + ys[ys.length >> 1]) / 2);
    return {
      ...trace,
      x: lengths,
      y: middle,
      error_y: {
        ...trace.error_y,
        array: sorted.map((ys, index) => ys.at(-1) - middle[index]),
        arrayminus: sorted.map((ys, index) => middle[index] - ys[0]),
      },
      hovertemplate: undefined,
      customdata: undefined,
      isGrouped: true,
    };
  }

  // What is left of a figure over many runs, and a sentence about what that is.
  function filtered(figure) {
    const meta = figure.layout.meta;
    if (!figure.data.some((trace) => trace.meta?.rows)) return { figure, said: "" };
    let data = figure.data.map((trace) =>
      trace.meta?.rows ? picked(trace, trace.meta.rows.flatMap((rows, index) => (place(rows) < Infinity ? [index] : []))) : trace,
    );
    const layout = { ...figure.layout };
    const said = [];
    if (meta?.runs) {
      const places = new Map();
      for (const trace of data) trace.meta.run.forEach((run, index) => places.set(run, Math.min(places.get(run) ?? Infinity, place(trace.meta.rows[index]))));
      const order = [...places.keys()].sort((a, b) => places.get(a) - places.get(b));
      const rank = new Map(order.slice(0, meta.most).map((run, index) => [run, index]));
      data = data.map((trace) => picked(trace, trace.meta.run.flatMap((run, index) => (rank.has(run) ? [index] : []))));
      // One bar after the other, run by run: what a run has not leaves no hole.
      const bars = data.flatMap((trace, order) => trace.meta.run.map((run, index) => ({ trace, index, order, run })));
      bars.sort((a, b) => rank.get(a.run) - rank.get(b.run) || a.order - b.order);
      const slots = new Map();
      let [slot, last] = [-1, null];
      for (const { trace, index, run } of bars) {
        slot += last === null || last === run ? 1 : 1 + meta.gap;
        last = run;
        trace.y[index] = slot;
        (slots.get(run) ?? slots.set(run, []).get(run)).push(slot);
      }
      layout.yaxis = {
        ...layout.yaxis,
        tickvals: [...slots.values()].map((mine) => (mine[0] + mine.at(-1)) / 2),
        ticktext: [...slots.keys()].map((run) => (innerWidth < NARROW_PX ? meta.runs[run].replaceAll(" · ", "<br>") : meta.runs[run])),
        range: [Math.max(slot, 0) + 0.7, -0.7],
      };
      layout.height = 100 + meta.row_height * Math.max(slot + 1.4, 5);
      if (order.length > rank.size) said.push(tell("first-runs", { drawn: rank.size, count: order.length.toLocaleString("en") }));
    }
    if (meta?.grouped) {
      data = data.map(grouped);
      if (data.some((trace) => trace.isGrouped)) said.push(words.median);
    }
    data = data.filter((trace) => !trace.meta?.rows || trace.x.length);
    if (shown !== null && !data.length) said.push(words["no-value"]);
    return { figure: { ...figure, data, layout }, said: said.join(words["between-sentences"]) };
  }

  // Between a linear and a logarithmic scale, by the reader's choice.
  const switched = new Map(); // box to the type of its axis
  function scaled(figure, box, axis) {
    const type = switched.get(box);
    if (!type) return figure;
    const { range, tickvals, ticktext, rangemode, type: _, ...own } = figure.layout[axis] ?? {};
    const other = type === "log" ? { type, ...roundTicks(figure, axis) } : { type, rangemode: "tozero" };
    const text = own.title?.text
      ?.replace(new RegExp(`[,，]? ?[(（]?${words.logarithmic}[)）]?`), "")
      .replace(/\(([^()]*)$/, "($1)")
      .replace(/（([^（）]*)$/, "（$1）");
    return { ...figure, layout: { ...figure.layout, [axis]: { ...own, ...other, title: { ...own.title, text } } } };
  }

  // Whole numbers at 1, 2 and 5: plotly's own digits between powers of ten read as another unit.
  function roundTicks(figure, axis) {
    const values = figure.data
      .filter((trace) => (trace[`${axis[0]}axis`] ?? axis[0]) === axis[0])
      .flatMap((trace) => trace[axis[0]])
      .filter((value) => value > 0);
    const [low, high] = [Math.min(...values), Math.max(...values)];
    const powers = Array.from({ length: 30 }, (_, index) => index - 15);
    const ticks = powers.flatMap((power) => [1, 2, 5].map((digit) => Number(`${digit}e${power}`)));
    const kept = ticks.filter((tick) => tick > low / 2 && tick < high * 2);
    const shown = kept.length > 9 ? kept.filter((tick) => Math.log10(tick) % 1 === 0) : kept;
    return { tickvals: shown, ticktext: shown.map((tick) => tick.toLocaleString("en", { maximumSignificantDigits: 3 })) };
  }

  for (const button of document.querySelectorAll("button[data-switch]")) {
    const box = document.getElementById(button.dataset.switch);
    const [axis, own] = [button.dataset.axis, figures[box.id].layout[button.dataset.axis]?.type === "log" ? "log" : "linear"];
    box.dataset.axis = axis;
    button.setAttribute("aria-pressed", String(own === "log"));
    button.addEventListener("click", () => {
      const type = (switched.get(box) ?? own) === "log" ? "linear" : "log";
      if (type === own) switched.delete(box);
      else switched.set(box, type);
      button.setAttribute("aria-pressed", String(type === "log"));
      draw(box);
    });
  }

  let saved = Promise.resolve(); // plotly takes one picture at a time
  for (const button of document.querySelectorAll("button[data-save]")) {
    button.addEventListener("click", () => {
      const box = document.getElementById(button.dataset.chart);
      if (!drawn.has(box)) draw(box);
      const size = { width: box.clientWidth, height: box.clientHeight, scale: button.dataset.save === "png" ? 2 : 1 };
      const wanted = { format: button.dataset.save, filename: `kvbench-${box.id}`, ...size };
      saved = saved.then(() => Plotly.downloadImage(box, wanted)).catch(console.error);
    });
  }

  function draw(box) {
    const { figure, said } = filtered(figures[box.id]);
    const { data, layout } = themed(scaled(figure, box, box.dataset.axis), box);
    if (layout.height) box.style.height = `${layout.height}px`;
    Plotly.react(box, data, layout, options);
    const note = box.parentElement.querySelector(".drawn");
    if (note) note.textContent = said;
    drawn.add(box);
  }

  const boxes = [...document.querySelectorAll(".chart")];
  // A chart in a closed section has no width yet; it is drawn when it comes into view.
  const watcher = new IntersectionObserver(
    (entries) => entries.filter((entry) => entry.isIntersecting && !drawn.has(entry.target)).forEach((entry) => draw(entry.target)),
    { rootMargin: "400px" },
  );
  boxes.forEach((box) => watcher.observe(box));

  return {
    tell,
    redraw: () => drawn.forEach(draw),
    drawVisible: () => boxes.filter((box) => box.offsetParent !== null).forEach(draw),
    // The rows to show, in the order of the table.
    show(rows) {
      shown = new Map(rows.map((row, index) => [row, index]));
      boxes.filter((box) => drawn.has(box) && figures[box.id].data.some((trace) => trace.meta?.rows)).forEach(draw);
    },
  };
})();
