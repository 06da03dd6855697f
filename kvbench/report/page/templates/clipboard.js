"use strict";
// Copying, also where a page that was opened as a file has no clipboard of its own.
const clipboard = (() => {
  function throughSelection(text) {
    const area = document.createElement("textarea");
    area.value = text;
    area.className = "away";
    document.body.append(area);
    area.select();
    const done = document.execCommand("copy");
    area.remove();
    return done;
  }

  async function copy(button, text) {
    let done = false;
    try {
      await navigator.clipboard.writeText(text);
      done = true;
    } catch {
      done = throughSelection(text);
    }
    const title = (button.dataset.title ??= button.textContent);
    button.textContent = charts.tell(done ? "copied" : "cannot-copy");
    setTimeout(() => { button.textContent = title; }, 1500);
    button.focus();
  }

  // A press on a figure copies it as recorded.
  document.addEventListener("click", async (event) => {
    const cell = event.target.closest?.("td.copied");
    if (!cell || String(getSelection())) return;
    let done = true;
    try {
      await navigator.clipboard.writeText(cell.title || cell.textContent);
    } catch {
      done = throughSelection(cell.title || cell.textContent);
    }
    if (!done) return;
    cell.classList.add("just-copied");
    setTimeout(() => cell.classList.remove("just-copied"), 900);
  });

  for (const button of document.querySelectorAll("button[data-copy]")) {
    button.addEventListener("click", () => copy(button, document.getElementById(button.dataset.copy).textContent));
  }
  return { copy };
})();
