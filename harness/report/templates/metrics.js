// Another metric, or some of the seeds: the values of the tables are computed again from those of the runs, as
// analysis/statistics.py computes them. Stars, figures and the paper's numbers are of the table's own metric and all seeds.
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
    return { percent, low: percent - half, high: percent + half, n: seeds.length };
  };
  const words = ({ percent, low, high, n }) => {
    const whole = `${Number(percent.toFixed(1)) ? signed(percent, 1) : "0.0"}\u202f%`;
    if (low === undefined) return whole;
    if (low * high < 0 && high - low > 100) return `${whole} (${n} seeds cannot tell)`;
    const decimals = high - low >= 20 && Math.min(Math.abs(low), Math.abs(high)) >= 1 ? 0 : 1;
    return `${whole} [${signed(low, decimals)},\u00a0${signed(high, decimals)}]`;
  };
  const kind = (change, direction) => {
    if (change.low === undefined || change.low * change.high <= 0 || !direction) return "same";
    return (change.percent < 0) === (direction === "lower") ? "better" : "worse";
  };

  const bases = new Map();
  const valuesBehind = (chosen, name) => {
    const values = new Map();
    for (const row of document.querySelectorAll("#all-runs tr[data-behind]")) {
      const anchor = row.dataset.behind, value = JSON.parse(row.dataset.metrics)[name];
      bases.set(anchor, row.dataset.base);
      if (!values.has(anchor)) values.set(anchor, new Map());
      if (value !== undefined && chosen.has(row.cells[2].textContent)) values.get(anchor).set(row.cells[2].textContent, value);
    }
    return values;
  };
  const keep = part => { if (!printed.has(part)) printed.set(part, [part.innerHTML, part.className]); };

  const show = () => {
    printed.forEach(([html, name], part) => { part.innerHTML = html; part.className = name; });
    printed.clear();
    const chosen = new Set(boxes.filter(box => box.checked).map(box => box.value));
    const { direction, decimals } = metric.selectedOptions[0].dataset;
    const all = chosen.size === boxes.length && metric.value === metric.options[0].value;
    document.body.classList.toggle("recomputed", !all);
    if (all) return;
    const values = valuesBehind(chosen, metric.value);
    for (const link of document.querySelectorAll(".pivot .behind")) {
      const ours = values.get(link.hash.slice(1)), sample = [...ours.values()];
      const shown = link.querySelector(".ours"), count = link.querySelector(".count");
      if (!shown) continue;
      [shown, count].forEach(keep);
      const spread = sample.length > 1 ? `\u00a0±\u00a0${number(deviation(sample), decimals)}` : "";
      shown.textContent = sample.length ? number(mean(sample), decimals) + spread : "–";
      count.textContent = `n=${sample.length}`;
      const place = (link.closest(".cell") ?? link.closest("tr")).querySelector(":is(.change, td) > :is(.better, .worse, .same)");
      const base = values.get(bases.get(link.hash.slice(1)));
      if (!place || !base) continue;
      keep(place);
      const moved = change(ours, base);
      place.textContent = moved ? words(moved) : "–";
      place.className = moved ? kind(moved, direction) : "same";
    }
  };
  form.addEventListener("input", show);
  document.addEventListener("renewed", () => { printed.clear(); show(); });
  form.hidden = false;
})();
