"use strict";
(() => {
  const root = document.documentElement;
  const remembered = { // a browser may refuse to remember for a file
    get: () => { try { return localStorage.getItem("theme"); } catch { return null; } },
    set: value => { try { localStorage.setItem("theme", value); } catch { /* then it is not remembered */ } },
  };

  const button = document.getElementById("theme");
  const isDark = () => (root.dataset.theme || (matchMedia("(prefers-color-scheme: dark)").matches ? "dark" : "light")) === "dark";
  const say = () => { button.textContent = isDark() ? "Light theme" : "Dark theme"; };
  if (["dark", "light"].includes(remembered.get())) root.dataset.theme = remembered.get();
  button.hidden = false;
  button.addEventListener("click", () => {
    root.dataset.theme = isDark() ? "light" : "dark";
    remembered.set(root.dataset.theme);
    say();
  });
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", say);
  say();

  const table = document.getElementById("all-runs");
  const rows = [...table.tBodies[0].rows];
  const written = rows.map(row => row.textContent.toLowerCase());
  const words = document.getElementById("filter-words");
  const state = document.getElementById("filter-state");
  const count = document.getElementById("filter-count");
  const everything = document.getElementById("filter-none");
  let cell = "";

  const filter = () => {
    const asked = words.value.toLowerCase().split(/\s+/).filter(Boolean);
    let shown = 0;
    rows.forEach((row, index) => {
      row.hidden = !((!cell || row.dataset.behind === cell) && (!state.value || row.dataset.state === state.value)
        && asked.every(word => written[index].includes(word)));
      shown += !row.hidden;
    });
    count.textContent = `${shown} of ${rows.length} runs${cell ? ", those behind one cell" : ""}`;
    everything.hidden = shown === rows.length;
  };
  const follow = () => {
    const target = decodeURIComponent(location.hash.slice(1));
    if (target.startsWith("training-")) return;
    const found = rows.some(row => row.dataset.behind === target);
    cell = found ? target : "";
    if (found) { words.value = ""; state.value = ""; }
    filter();
    if (found) document.getElementById("index").scrollIntoView();
  };
  words.addEventListener("input", filter);
  state.addEventListener("change", filter);
  everything.addEventListener("click", () => {
    cell = words.value = state.value = "";
    filter();
    words.focus();
  });
  addEventListener("hashchange", follow);

  const key = (row, column) => {
    const text = row.cells[column].textContent.trim();
    const number = parseFloat(text.replace("−", "-"));
    return { text, number, isNumber: /^[−\d.]+( \w+)?$/.test(text) };
  };
  const compare = (a, b) => a.isNumber && b.isNumber ? a.number - b.number : a.text.localeCompare(b.text, "en", { numeric: true });
  [...table.tHead.rows[0].cells].forEach((head, column) => {
    const sorter = document.createElement("button");
    sorter.type = "button";
    sorter.textContent = head.textContent;
    head.replaceChildren(sorter);
    sorter.addEventListener("click", () => {
      const descending = head.ariaSort === "ascending";
      [...table.tHead.rows[0].cells].forEach(other => { other.removeAttribute("aria-sort"); });
      head.setAttribute("aria-sort", descending ? "descending" : "ascending");
      const keyed = rows.map(row => ({ row, key: key(row, column) }));
      keyed.sort((a, b) => !a.key.text - !b.key.text || (descending ? -1 : 1) * compare(a.key, b.key));
      table.tBodies[0].append(...keyed.map(entry => entry.row));
    });
  });
  document.getElementById("filters").hidden = false;
  follow();
})();
