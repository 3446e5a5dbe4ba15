(() => {
  const left = new Map(); // hash → the link by which that view was left, to give the focus back
  let rows, written;
  const found = id => document.getElementById(id);

  const filter = () => {
    const asked = found("filter-words").value.toLowerCase().split(/\s+/).filter(Boolean);
    const state = found("filter-state").value;
    let shown = 0;
    rows.forEach((row, index) => {
      const fits = (!state || row.dataset.state === state)
        && asked.every(word => written[index].includes(word));
      if (row.hidden === fits) row.hidden = !fits;
      shown += fits;
    });
    found("filter-count").textContent = `${shown} of ${rows.length} runs`;
    found("filter-none").hidden = shown === rows.length;
  };

  const equip = () => { // also after a page that is watched has taken in new runs
    const table = found("all-runs");
    rows = [...table.tBodies[0].rows];
    written = rows.map(row => row.textContent.toLowerCase());
    sortable(table);
    found("filter-words").addEventListener("input", filter);
    found("filter-state").addEventListener("change", filter);
    found("filter-none").addEventListener("click", () => {
      found("filter-words").value = found("filter-state").value = "";
      filter();
      found("filter-words").focus();
    });
    found("filters").hidden = false;
    filter();
  };

  const follow = () => {
    const target = decodeURIComponent(location.hash.slice(1));
    document.querySelectorAll(".training.shown").forEach(training => training.classList.remove("shown"));
    if (target === "index" || target.startsWith("training-")) found("index").querySelector("details").open = true;
    if (target.startsWith("training-")) {
      found(target)?.classList.add("shown");
      found(target)?.querySelector("h3").focus({ preventScroll: true });
      return;
    }
    left.get(location.hash)?.focus({ preventScroll: true });
  };
  document.addEventListener("click", event => {
    const link = event.target.closest('a[href^="#"]:not([href^="#runs-"])');
    if (link) left.set(location.hash, link);
  });
  addEventListener("hashchange", follow);
  document.addEventListener("renewed", equip);
  equip();
  follow();
})();
