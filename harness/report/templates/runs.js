(() => {
  const left = new Map(); // hash → the link by which that view was left, to give the focus back
  let rows, written, cell = "";
  const found = id => document.getElementById(id);

  const filter = () => {
    const asked = found("filter-words").value.toLowerCase().split(/\s+/).filter(Boolean);
    const state = found("filter-state").value;
    let shown = 0;
    rows.forEach((row, index) => {
      const fits = (!cell || row.dataset.behind === cell) && (!state || row.dataset.state === state)
        && asked.every(word => written[index].includes(word));
      if (row.hidden === fits) row.hidden = !fits;
      shown += fits;
    });
    found("filter-count").textContent = `${shown} of ${rows.length} runs${cell ? ", those behind one cell" : ""}`;
    found("filter-none").hidden = shown === rows.length;
  };

  const key = (row, column) => {
    const text = row.cells[column].textContent.trim();
    return { text, number: parseFloat(text.replace("−", "-")), isNumber: /^[−\d.]+( \w+)?$/.test(text) };
  };
  const compare = (a, b) => a.isNumber && b.isNumber ? a.number - b.number : a.text.localeCompare(b.text, "en", { numeric: true });
  const sort = (head, column) => {
    const descending = head.ariaSort === "ascending";
    [...head.parentElement.cells].forEach(other => { other.removeAttribute("aria-sort"); });
    head.setAttribute("aria-sort", descending ? "descending" : "ascending");
    const keyed = rows.map(row => ({ row, key: key(row, column) }));
    keyed.sort((a, b) => !a.key.text - !b.key.text || (descending ? -1 : 1) * compare(a.key, b.key));
    rows[0]?.parentElement.append(...keyed.map(entry => entry.row));
  };

  const equip = () => { // also after a page that is watched has taken in new runs
    const table = found("all-runs");
    rows = [...table.tBodies[0].rows];
    written = rows.map(row => row.textContent.toLowerCase());
    [...table.tHead.rows[0].cells].forEach((head, column) => {
      const sorter = document.createElement("button");
      sorter.type = "button";
      sorter.textContent = head.textContent;
      head.replaceChildren(sorter);
      sorter.addEventListener("click", () => sort(head, column));
    });
    found("filter-words").addEventListener("input", filter);
    found("filter-state").addEventListener("change", filter);
    found("filter-none").addEventListener("click", () => {
      cell = found("filter-words").value = found("filter-state").value = "";
      filter();
      found("filter-words").focus();
    });
    found("filters").hidden = false;
    filter();
  };

  const follow = () => {
    const target = decodeURIComponent(location.hash.slice(1));
    document.querySelectorAll(".training.shown").forEach(training => training.classList.remove("shown"));
    if (target.startsWith("training-")) {
      found("index").querySelector("details").open = true;
      found(target)?.classList.add("shown");
      found(target)?.querySelector("h3").focus({ preventScroll: true });
      return;
    }
    const behind = rows.some(row => row.dataset.behind === target);
    if (behind || target === "index") found("index").querySelector("details").open = true;
    cell = behind ? target : "";
    if (behind) found("filter-words").value = found("filter-state").value = "";
    filter();
    if (behind) found("index").scrollIntoView();
    left.get(location.hash)?.focus({ preventScroll: !behind });
    if (behind && !left.has(location.hash)) rows.find(row => !row.hidden).querySelector("a").focus({ preventScroll: true });
  };
  document.addEventListener("click", event => {
    const link = event.target.closest('a[href^="#"]');
    if (link) left.set(location.hash, link);
  });
  addEventListener("hashchange", follow);
  document.addEventListener("renewed", equip);
  equip();
  follow();
})();
