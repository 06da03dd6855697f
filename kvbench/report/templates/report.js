"use strict";
(() => {
  const figures = JSON.parse(document.getElementById("figures").textContent);
  const drawn = new Set();
  const options = { displayModeBar: false, responsive: true };

  // The stylesheet owns the colours; what it resolves to in the current theme is read back from the chart's box.
  function themed(figure, box) {
    const style = getComputedStyle(box);
    const [text, line, page] = [style.color, style.borderTopColor, style.backgroundColor];
    const colours = { gridcolor: line, linecolor: line, zerolinecolor: line, tickcolor: line };
    const axis = (own) => ({ automargin: true, ...colours, ...own, title: { standoff: 10, ...own.title, font: { size: 13 } } });
    const layout = {
      ...figure.layout,
      paper_bgcolor: "rgba(0,0,0,0)",
      plot_bgcolor: "rgba(0,0,0,0)",
      font: { family: style.fontFamily, size: 13, color: text },
      hoverlabel: { bgcolor: page, bordercolor: line, font: { color: text } },
    };
    // A chart of several panels has an axis for each: xaxis, xaxis2, …
    for (const name of new Set(["xaxis", "yaxis", ...Object.keys(figure.layout)])) {
      if (/^[xy]axis\d*$/.test(name)) layout[name] = axis(figure.layout[name]);
    }
    const data = figure.data.map((trace) => {
      const whiskers = {};
      for (const name of ["error_x", "error_y"]) {
        if (trace[name]) whiskers[name] = { ...trace[name], color: text };
      }
      return { ...trace, ...whiskers };
    });
    return { data, layout };
  }

  function draw(box) {
    const { data, layout } = themed(figures[box.id], box);
    Plotly.react(box, data, layout, options);
    drawn.add(box);
  }

  const boxes = [...document.querySelectorAll(".chart")];
  const visible = (box) => box.offsetParent !== null;
  // A chart in a closed section has no width yet; it is drawn when it comes into view.
  const watcher = new IntersectionObserver(
    (entries) => entries.filter((entry) => entry.isIntersecting && !drawn.has(entry.target)).forEach((entry) => draw(entry.target)),
    { rootMargin: "400px" },
  );
  boxes.forEach((box) => watcher.observe(box));
  addEventListener("beforeprint", () => boxes.filter(visible).forEach(draw));

  const dark = matchMedia("(prefers-color-scheme: dark)");
  const redraw = () => drawn.forEach(draw);
  dark.addEventListener("change", redraw);
  document.getElementById("theme").addEventListener("click", () => {
    const root = document.documentElement;
    const isDark = root.dataset.theme ? root.dataset.theme === "dark" : dark.matches;
    root.dataset.theme = isDark ? "light" : "dark";
    redraw();
  });

  // What a token's title says on hover stands below its text, for the keyboard and for touch too.
  for (const heat of document.querySelectorAll(".heat")) {
    const [text, detail] = [heat.querySelector("pre"), heat.querySelector("output")];
    let chosen = null;
    const choose = (token) => {
      if (!token) return;
      chosen?.classList.remove("chosen");
      chosen = token;
      chosen.classList.add("chosen");
      detail.textContent = chosen.title;
    };
    text.addEventListener("pointerover", (event) => choose(event.target.closest(".token")));
    text.addEventListener("click", (event) => choose(event.target.closest(".token")));
    text.addEventListener("keydown", (event) => {
      const next = { ArrowRight: "nextElementSibling", ArrowLeft: "previousElementSibling" }[event.key];
      if (!next) return;
      event.preventDefault();
      choose(chosen ? chosen[next] : text.firstElementChild);
      chosen?.scrollIntoView({ block: "nearest" });
    });
  }

  // A link to a run opens its section.
  function openTarget() {
    const target = location.hash && document.getElementById(location.hash.slice(1));
    if (target instanceof HTMLDetailsElement) {
      target.open = true;
      target.scrollIntoView();
    }
  }
  addEventListener("hashchange", openTarget);
  openTarget();
})();
