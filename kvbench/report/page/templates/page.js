"use strict";
(() => {
  const root = document.documentElement;
  const dark = matchMedia("(prefers-color-scheme: dark)");
  dark.addEventListener("change", charts.redraw);
  document.getElementById("theme").addEventListener("click", () => {
    const isDark = root.dataset.theme ? root.dataset.theme === "dark" : dark.matches;
    root.dataset.theme = isDark ? "light" : "dark";
    charts.redraw();
  });

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

  // Paper is light, and shows what lists would only show when opened; runs that were left closed stay closed.
  const PRINTED_ROWS = 500;
  let before = null;
  addEventListener("beforeprint", () => {
    const lists = [...document.querySelectorAll("details.facts")].filter((each) => !each.open && each.offsetParent !== null);
    before = { theme: root.dataset.theme, lists };
    lists.forEach((each) => { each.open = true; });
    root.dataset.theme = "light";
    table?.drawAll(PRINTED_ROWS);
    charts.drawVisible();
  });
  addEventListener("afterprint", () => {
    if (before === null) return;
    before.lists.forEach((each) => { each.open = false; });
    if (before.theme) root.dataset.theme = before.theme;
    else delete root.dataset.theme;
    before = null;
    charts.redraw();
  });

  // The table stands and what is in view is drawn: two frames later it is on the screen.
  requestAnimationFrame(() => requestAnimationFrame(() => performance.mark("kvbench-usable")));
})();
