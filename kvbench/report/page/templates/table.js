"use strict";
// The table over many runs: sorted, filtered and copied; as much of it on the page as has been asked for.
const table = (() => {
  const box = document.getElementById("runs");
  if (!box) return null;
  const { columns, run, runs } = JSON.parse(document.getElementById("rows").textContent);
  const PAGE = 100; // rows that are drawn at a time
  const seen = columns.filter((column) => !column.hidden);
  const [head, body] = [box.querySelector("thead tr"), box.querySelector("tbody")];
  const [count, more] = [document.getElementById("count"), document.getElementById("more")];
  const controls = new Map([...document.querySelectorAll("#filters select")].map((select) => [select.name, select]));
  const everything = run.map((_, row) => row);
  let sorting = { key: "", down: false };
  let rows = everything;
  let drawn = 0;

  const text = (column, row) => column.texts[column.cells[row]];
  const label = (row) => runs[run[row]][0];
  const collator = new Intl.Collator("en", { numeric: true });

  // Places of a column's texts in their order, so that a sort compares numbers alone; what is unknown comes last.
  function ranks(column) {
    const order = column.texts.map((_, place) => place);
    const known = (place) => (column.numbers ? column.numbers[place] !== null : !["", "—"].includes(column.texts[place]));
    const compare = column.numbers
      ? (a, b) => column.numbers[a] - column.numbers[b]
      : (a, b) => collator.compare(column.texts[a], column.texts[b]);
    order.sort((a, b) => known(b) - known(a) || (known(a) ? compare(a, b) : 0));
    const rank = [];
    order.forEach((place, index) => { rank[place] = known(place) ? index : Infinity; });
    return rank;
  }

  function sort() {
    const column = columns.find((each) => each.key === sorting.key);
    const sign = sorting.down ? -1 : 1;
    if (sorting.key === "run") {
      rows.sort((a, b) => sign * collator.compare(label(a), label(b)) || a - b);
    } else if (column) {
      const rank = ranks(column);
      const of = (row) => rank[column.cells[row]];
      rows.sort((a, b) => (of(a) === of(b) ? a - b : of(a) === Infinity ? 1 : of(b) === Infinity ? -1 : sign * (of(a) - of(b))));
    }
    for (const th of head.children) {
      th.setAttribute("aria-sort", th.dataset.key === sorting.key ? (sorting.down ? "descending" : "ascending") : "none");
    }
  }

  function filter() {
    const wanted = columns
      .filter((column) => controls.get(column.key)?.value)
      .map((column) => [column, column.texts.indexOf(controls.get(column.key).value)]);
    rows = everything.filter((row) => wanted.every(([column, place]) => column.cells[row] === place));
  }

  function element(name, content, attributes = {}) {
    const made = document.createElement(name);
    made.textContent = content;
    for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
    return made;
  }

  function badge(word) {
    return element("span", word, { class: `badge ${word === charts.tell("valid") ? "good" : "bad"}` });
  }

  // Where a run without a section of its own is found.
  function told(tr, row) {
    if (tr.nextElementSibling?.classList.contains("told")) return tr.nextElementSibling.remove();
    const line = element("tr", "", { class: "told" });
    const cell = element("td", charts.tell("not-drawn"), { colspan: seen.length + 1 });
    cell.append(element("code", `python -m kvbench report ${quoted(runs[run[row]][2])}`));
    line.append(cell);
    tr.after(line);
  }

  const quoted = (path) => (/^[\w./=-]+$/.test(path) ? path : `'${path.replaceAll("'", "'\\''")}'`);

  function name(tr, row) {
    const [labelled, anchor] = runs[run[row]];
    const th = element("th", "", { scope: "row" });
    const shownAs = labelled || charts.tell("run-number", { number: run[row] + 1 });
    if (anchor) {
      th.append(element("a", shownAs, { href: `#${anchor}` }));
    } else {
      const button = element("button", shownAs, { type: "button", class: "quiet" });
      button.addEventListener("click", () => told(tr, row));
      th.append(button);
    }
    return th;
  }

  function drawRows(upTo) {
    const fragment = document.createDocumentFragment();
    for (; drawn < Math.min(upTo, rows.length); drawn += 1) {
      const row = rows[drawn];
      const tr = document.createElement("tr");
      tr.append(name(tr, row));
      for (const column of seen) {
        const value = text(column, row);
        const td = element("td", column.key === "status" ? "" : value, column.key === "speedup" ? { class: "number answer" } : column.numbers ? { class: "number" } : column.key === "note" ? { class: "prose" } : {});
        if (column.key === "status") td.append(badge(value));
        tr.append(td);
      }
      fragment.append(tr);
    }
    body.append(fragment);
    more.hidden = drawn >= rows.length;
    more.textContent = charts.tell("more-rows", { count: Math.min(PAGE, rows.length - drawn), of: (rows.length - drawn).toLocaleString("en") });
  }

  // The first sentence speaks of the runs that the filters leave; the others, which speak of all, wait meanwhile.
  const lead = document.getElementById("lead");
  const whole = lead.textContent;
  function headline() {
    const filtered = rows.length < everything.length;
    for (const sentence of document.querySelectorAll(".of-all")) sentence.hidden = filtered;
    lead.textContent = filtered ? ofFiltered() : whole;
  }

  function ofFiltered() {
    const column = (key) => columns.find((each) => each.key === key);
    const left = new Map(rows.map((row) => [run[row], text(column("status"), row) === charts.tell("valid")]));
    const valid = [...left.values()].filter(Boolean).length;
    const counts = { valid: valid.toLocaleString("en"), count: left.size.toLocaleString("en") };
    const code = left.size === 1 ? (valid ? "left-one" : "left-one-not") : valid === 1 ? "left-single" : "left-many";
    const said = charts.tell(code, counts);
    const { numbers, texts, cells } = column("speedup");
    const known = rows.map((row) => cells[row]).filter((place) => numbers[place] !== null).sort((a, b) => numbers[a] - numbers[b]);
    if (!known.length) return said;
    if (known.length === 1) return said + charts.tell("left-speedup", { figure: texts[known[0]] });
    return said + charts.tell("left-speedups", { least: texts[known[0]], most: texts[known.at(-1)] });
  }

  function show() {
    headline();
    sort();
    body.replaceChildren();
    drawn = 0;
    drawRows(PAGE);
    const [some, all] = [rows.length.toLocaleString("en"), everything.length.toLocaleString("en")];
    count.textContent = rows.length === everything.length ? charts.tell("rows", { all }) : charts.tell("rows-of", { some, all });
    charts.show(rows);
  }

  function heads() {
    const add = (key, title, isNumber) => {
      const th = element("th", "", { scope: "col", "data-key": key, "aria-sort": "none", ...(isNumber ? { class: "number" } : {}) });
      const button = element("button", title, { type: "button", class: "sort" });
      button.addEventListener("click", () => {
        sorting = { key, down: sorting.key === key ? !sorting.down : isNumber };
        remember();
        show();
      });
      th.append(button);
      head.append(th);
    };
    add("run", charts.tell("run"), false);
    for (const column of seen) add(column.key, column.title, Boolean(column.numbers));
  }

  // A cell that a spreadsheet would read as a formula is marked as text.
  const spreadsheet = (value) => (/^[=+@\t-]/.test(value) ? `'${value}` : value).replace(/[\t\n\r]+/g, " ");
  const markdown = (value) => value.replace(/[\\`*_{}[\]<>|#&~!]/g, "\\$&").replace(/\s+/g, " ");

  // Every row that the filters leave, drawn or not, in the order of the table.
  function copied(kind) {
    const named = [null, ...seen];
    const cells = (row) => named.map((column) => (column ? text(column, row) : label(row)));
    const titles = named.map((column) => (column ? column.title : charts.tell("run")));
    if (kind === "tsv") return [titles, ...rows.map(cells)].map((line) => line.map(spreadsheet).join("\t")).join("\n") + "\n";
    const line = (values) => `| ${values.join(" | ")} |`;
    const rule = named.map((column) => (column?.numbers ? "--:" : "---"));
    return [line(titles.map(markdown)), line(rule), ...rows.map((row) => line(cells(row).map(markdown)))].join("\n") + "\n";
  }

  // What is filtered and sorted by stands in the address, so that a link shows the same.
  function remember() {
    const chosen = [...controls.values()].filter((select) => select.value).map((select) => [select.name, select.value]);
    if (sorting.key) chosen.push(["sort", (sorting.down ? "-" : "") + sorting.key]);
    history.replaceState(null, "", chosen.length ? `#?${new URLSearchParams(chosen)}` : location.pathname + location.search);
  }

  function recall() {
    if (!location.hash.startsWith("#?")) return;
    const wanted = new URLSearchParams(location.hash.slice(2));
    for (const [key, select] of controls) select.value = wanted.get(key) ?? "";
    for (const select of controls.values()) if (select.selectedIndex < 0) select.value = "";
    const key = wanted.get("sort") ?? "";
    sorting = { key: key.replace(/^-/, ""), down: key.startsWith("-") };
  }

  function fill() {
    for (const column of columns.filter((each) => controls.has(each.key))) {
      const rank = ranks(column);
      const texts = column.texts.map((value, place) => [value, rank[place]]).sort((a, b) => a[1] - b[1]);
      for (const [value] of texts) if (value !== "") controls.get(column.key).append(element("option", value, { value }));
    }
  }

  heads();
  fill();
  recall();
  filter();
  show();
  document.getElementById("filters").addEventListener("change", () => { filter(); remember(); show(); });
  document.getElementById("filters").addEventListener("reset", () => setTimeout(() => { filter(); remember(); show(); }));
  document.getElementById("filters").addEventListener("submit", (event) => event.preventDefault());
  addEventListener("hashchange", () => { if (location.hash.startsWith("#?")) { recall(); filter(); show(); } });
  more.addEventListener("click", () => drawRows(drawn + PAGE));
  for (const button of document.querySelectorAll("button[data-copy-table]")) {
    button.addEventListener("click", () => clipboard.copy(button, copied(button.dataset.copyTable)));
  }
  return { drawAll: (most) => drawRows(most) };
})();
