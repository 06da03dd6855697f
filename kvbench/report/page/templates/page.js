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

  // A link into something that is folded opens it, and all that it lies in.
  function openTarget() {
    const target = location.hash.length > 1 && document.getElementById(location.hash.slice(1));
    if (!target) return;
    for (let each = target; each; each = each.parentElement) if (each instanceof HTMLDetailsElement) each.open = true;
    target.scrollIntoView();
  }
  addEventListener("hashchange", openTarget);
  openTarget();
  // A second press on the same link changes no address.
  for (const link of document.querySelectorAll("nav.parts a")) link.addEventListener("click", () => setTimeout(openTarget));

  // Paper is light; charts are drawn for it by the page's builder, and what was left folded stays folded.
  const PRINTED_ROWS = 100;
  let before = null;
  addEventListener("beforeprint", () => {
    before = { theme: root.dataset.theme };
    root.dataset.theme = "light";
    table?.drawAll(PRINTED_ROWS);
    for (const kept of document.querySelectorAll("noscript.still")) {
      if (kept.closest("details:not([open])")) continue;
      const paper = new DOMParser().parseFromString(kept.textContent, "text/html").body.firstElementChild;
      paper.classList.add("printed");
      kept.after(paper);
    }
  });
  addEventListener("afterprint", () => {
    if (before === null) return;
    for (const paper of document.querySelectorAll("svg.printed")) paper.remove();
    if (before.theme) root.dataset.theme = before.theme;
    else delete root.dataset.theme;
    before = null;
  });

  // The table stands and what is in view is drawn: two frames later it is on the screen.
  requestAnimationFrame(() => requestAnimationFrame(() => performance.mark("kvbench-usable")));
})();
