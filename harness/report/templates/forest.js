// The forest plot of other changes, laid out as figures/forest.py does: on the first screen, and in the place of a
// table's plots, which are of the table's own metric and all seeds.
const forest = (() => {
  const PAD = 0.04, LEAST = 0.3, Y = 10;
  const drawn = ({ percent, low, high, silent }) => low === undefined || silent ? [percent] : [percent, low, high];
  const axisOf = (changes, most) => {
    const values = [0, ...changes.flatMap(drawn)], room = LEAST * (Math.max(...values.map(Math.abs)) || 1);
    const ends = [Math.min(-room, ...values), Math.max(room, ...values)], pad = PAD * (ends[1] - ends[0]);
    const [low, high] = [ends[0] - pad, ends[1] + pad], rough = (high - low) / most, power = 10 ** Math.floor(Math.log10(rough));
    const step = power * [1, 2, 2.5, 5, 10].find(part => part * power >= rough), first = Math.ceil(low / step);
    const ticks = Array.from({ length: Math.floor(high / step) - first + 1 }, (_, index) => (first + index) * step);
    return { ticks, place: percent => `${(100 * Math.min(1, Math.max(0, (percent - low) / (high - low)))).toFixed(2)}%` };
  };
  const line = (kind, from, to, top, bottom) => `<line class="${kind}" x1="${from}" x2="${to}" y1="${top}" y2="${bottom}"/>`;
  const marks = (change, { ticks, place }) => [
    ...ticks.map(tick => line("tick", place(tick), place(tick), 0, 2 * Y)), line("zero", place(0), place(0), 0, 2 * Y),
    change?.low === undefined ? "" : line(`interval${change.silent ? " silent" : ""}`, place(change.low), place(change.high), Y, Y),
    change ? `<circle cx="${place(change.percent)}" cy="${Y}" r="4"/>` : ""].join("");

  // rows: each with its line of the table, its change or null, its words and its kind
  const draw = (table, rows, metric) => {
    const axis = axisOf(rows.flatMap(({ change }) => change ?? []), table.closest(".moved") ? 2 : 5);
    for (const { row, change, words, kind } of rows) {
      const link = row.querySelector("a"), svg = row.querySelector("svg"), title = document.createElementNS(svg.namespaceURI, "title");
      title.textContent = link.title = svg.ariaLabel = `${link.textContent}: change of ${metric.title} ${words}${change?.n ? `, n=${change.n}` : ""}`;
      row.className = kind;
      svg.innerHTML = marks(change, axis);
      svg.prepend(title);
      row.cells[2].textContent = words.replaceAll("\u202f%", "");
    }
    const better = { lower: ["← better", "worse →"], higher: ["← worse", "better →"] }[metric.direction] ?? ["← lower", "higher →"];
    table.querySelectorAll(".ends span").forEach((end, index) => {
      end.textContent = better[index];
      end.className = /better|worse/.exec(better[index])?.[0] ?? "";
      end.style.left = axis.place(0);
    });
    table.querySelector(".ticks").replaceChildren(...axis.ticks.map(tick => {
      const words = `${tick > 0 ? "+" : ""}${Number(tick.toFixed(2))}`.replace("-", "−");
      const span = Object.assign(document.createElement("span"), { textContent: words });
      span.style.left = axis.place(tick);
      return span;
    }));
    table.querySelector(".metric").textContent = metric.title;
  };

  // A plot beside a table, of these cells by their names; like is that of the first screen.
  const beside = (place, like, cells) => {
    const figure = Object.assign(document.createElement("figure"), { className: "forest moved" }), table = like.cloneNode(true);
    const pattern = table.querySelector("tr:has(svg)").cloneNode(true), body = document.createElement("tbody");
    table.querySelectorAll("tbody").forEach(part => part.remove());
    const rows = cells.map(({ name, anchor }) => {
      const row = pattern.cloneNode(true);
      Object.assign(row.querySelector("a"), { textContent: name, href: `#${anchor}` });
      body.append(row);
      return row;
    });
    table.tHead.after(body);
    figure.append(table);
    place.prepend(figure);
    return rows;
  };
  return { draw, beside };
})();
