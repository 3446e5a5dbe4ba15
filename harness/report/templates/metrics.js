// Another metric, or some of the seeds: the values of the tables are computed again from those of the runs, as
// analysis/statistics.py computes them, and so are the plots of changes. Stars, other figures and the paper's numbers
// are of the table's own metric and all seeds.
(() => {
  const form = document.getElementById("view"), metric = document.getElementById("metric");
  if (!form) return; // where nothing is measured there is nothing to choose
  const boxes = [...form.querySelectorAll("input")], printed = new Map();
  const quantiles = JSON.parse(metric.dataset.quantiles);
  const mean = values => values.reduce((sum, value) => sum + value, 0) / values.length;
  const deviation = values => Math.hypot(...values.map(value => value - mean(values))) / Math.sqrt(values.length - 1);
  const number = (value, decimals) => value.toFixed(decimals).replace("-", "−");
  const signed = (value, decimals) => (value >= 0 ? "+" : "") + number(value, decimals);

  const change = (ours, base) => {
    const seeds = [...ours.keys()].filter(seed => base.has(seed));
    const y = seeds.map(seed => ours.get(seed)), x = seeds.map(seed => base.get(seed));
    if (!seeds.length || !mean(x)) return null;
    const ratio = mean(y) / mean(x), percent = 100 * (ratio - 1);
    if (seeds.length < 2) return { percent };
    const error = 100 * deviation(y.map((value, place) => value - ratio * x[place])) / Math.sqrt(seeds.length) / Math.abs(mean(x));
    const half = (quantiles[seeds.length - 2] ?? 1.96) * error;
    const [low, high] = [percent - half, percent + half];
    return { percent, low, high, n: seeds.length, silent: low * high < 0 && high - low > 100 };
  };
  const words = ({ percent, low, high, n, silent }) => {
    const whole = `${Number(percent.toFixed(1)) ? signed(percent, 1) : "0.0"}\u202f%`;
    if (low === undefined) return whole;
    if (silent) return `${whole} (${n} seeds cannot tell)`;
    const decimals = high - low >= 20 && Math.min(Math.abs(low), Math.abs(high)) >= 1 ? 0 : 1;
    return `${whole} [${signed(low, decimals)},\u00a0${signed(high, decimals)}]`;
  };
  const kind = (change, direction) => {
    if (change.low === undefined || change.low * change.high <= 0 || !direction) return "same";
    return (change.percent < 0) === (direction === "lower") ? "better" : "worse";
  };

  const bases = new Map(), names = new Map(); // of each cell
  const valuesBehind = (chosen, name) => {
    const values = new Map();
    for (const row of document.querySelectorAll("#all-runs tr[data-behind]")) {
      const anchor = row.dataset.behind, value = JSON.parse(row.dataset.metrics)[name];
      bases.set(anchor, row.dataset.base);
      names.set(anchor, row.cells[1].textContent);
      if (!values.has(anchor)) values.set(anchor, new Map());
      if (value !== undefined && chosen.has(row.cells[2].textContent)) values.get(anchor).set(row.cells[2].textContent, value);
    }
    return values;
  };
  const keep = part => { if (!printed.has(part)) printed.set(part, [part.innerHTML, part.className]); };

  const against = (values, anchor) => {
    const base = values.get(bases.get(anchor));
    return base ? change(values.get(anchor), base) : null;
  };
  const plot = (values, { title, direction }) => {
    const first = document.querySelector("#answer .forest table");
    if (!first) return;
    const entry = row => {
      const moved = against(values, row.querySelector("a").hash.slice(1));
      return { row, change: moved, words: moved ? words(moved) : "–", kind: moved ? kind(moved, direction) : "same" };
    };
    for (const table of document.querySelectorAll("section.table:has(.beside figure.plot)")) {
      const anchors = [...new Set([...table.querySelectorAll(".pivot .behind")].map(link => link.hash.slice(1)))];
      const cells = anchors.filter(anchor => bases.get(anchor)).map(anchor => ({ anchor, name: names.get(anchor) }));
      if (!cells.length) continue;
      const rows = forest.beside(table.querySelector(".beside > div:last-child"), first, cells);
      forest.draw(rows[0].closest("table"), rows.map(entry), { title, direction });
    }
    keep(first);
    forest.draw(first, [...first.querySelectorAll("tr:has(svg)")].map(entry), { title, direction });
  };

  const show = () => {
    document.querySelectorAll(".moved").forEach(figure => figure.remove());
    printed.forEach(([html, name], part) => { part.innerHTML = html; part.className = name; });
    printed.clear();
    const chosen = new Set(boxes.filter(box => box.checked).map(box => box.value));
    const { direction, decimals } = metric.selectedOptions[0].dataset;
    const all = chosen.size === boxes.length && metric.value === metric.options[0].value;
    document.body.classList.toggle("recomputed", !all);
    if (all) return;
    const values = valuesBehind(chosen, metric.value);
    plot(values, { title: metric.selectedOptions[0].textContent, direction });
    for (const link of document.querySelectorAll(".pivot .behind")) {
      const ours = values.get(link.hash.slice(1)), sample = [...ours.values()];
      const shown = link.querySelector(".ours"), count = link.querySelector(".count");
      if (!shown) continue;
      [shown, count].forEach(keep);
      const spread = sample.length > 1 ? `\u00a0±\u00a0${number(deviation(sample), decimals)}` : "";
      shown.textContent = sample.length ? number(mean(sample), decimals) + spread : "–";
      count.textContent = `n=${sample.length}`;
      const place = (link.closest(".cell") ?? link.closest("tr")).querySelector(":is(.change, td) > :is(.better, .worse, .same)");
      if (!place || !bases.get(link.hash.slice(1))) continue;
      keep(place);
      const moved = against(values, link.hash.slice(1));
      place.textContent = moved ? words(moved) : "–";
      place.className = moved ? kind(moved, direction) : "same";
    }
  };
  form.addEventListener("input", show);
  document.addEventListener("renewed", () => { printed.clear(); show(); });
  form.hidden = false;
})();
