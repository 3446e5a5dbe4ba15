// Two runs side by side: settings and numbers that differ, curves over each other, samples beside each other.
const compared = (() => {
  const make = (tag, words = "", properties = {}) => Object.assign(document.createElement(tag), { textContent: words }, properties);
  const trainingOf = row => document.getElementById(row.cells[5].querySelector("a").hash.slice(1)); // or on another page
  const measuredOf = row => document.getElementById(`measured-${row.cells[6].textContent}`);
  const flat = (value, name) => value === null || typeof value !== "object" ? [[name, String(value)]]
    : Object.entries(value).flatMap(([key, part]) => flat(part, name ? `${name}.${key}` : key));
  const settings = part => new Map(part ? flat(JSON.parse(part.querySelector(":scope > details > .spec").textContent), "") : []);
  const numbers = row => new Map(Object.entries(JSON.parse(row.dataset.metrics)).map(([name, value]) => {
    const metric = document.querySelector(`#metric option[value="${CSS.escape(name)}"]`);
    return [metric?.textContent ?? name, metric ? value.toFixed(metric.dataset.decimals).replace("-", "−") : String(value)];
  }));

  const differing = (title, [ours, theirs]) => {
    const body = make("tbody"), names = [...new Set([...ours.keys(), ...theirs.keys()])];
    const unlike = names.filter(name => ours.get(name) !== theirs.get(name));
    const head = make("th", `${title}: ${unlike.length || "none"} of ${names.length} differ`, { scope: "rowgroup", colSpan: 3 });
    body.insertRow().append(head);
    for (const name of unlike) {
      const cells = [ours, theirs].map(side => make("td", side.get(name) ?? "–"));
      body.insertRow().append(make("th", name, { scope: "row" }), ...cells);
    }
    return names.length ? [body] : [];
  };
  const tableOf = (rows, ...parts) => {
    const table = make("table", "", { className: "claims each" }), head = make("tr");
    const words = row => `${row.cells[0].textContent}, ${row.cells[1].textContent}, seed ${row.cells[2].textContent}`;
    head.append(make("th", "what differs", { scope: "col" }), ...rows.map(row => make("th", words(row), { scope: "col" })));
    table.createTHead().append(head);
    table.append(...parts.flat());
    return table;
  };

  const WIDTH = 280, HEIGHT = 90; // of the box that a curve is drawn in
  const values = line => {
    const [first, last, low, high] = line.dataset.box.split(" ").map(Number);
    return line.getAttribute("points").split(" ").map(point => point.split(",").map(Number))
      .map(([x, y]) => [first + x / WIDTH * (last - first), high - y / HEIGHT * (high - low)]);
  };
  const overlaid = figures => {
    const copy = figures.find(Boolean).cloneNode(true), svg = copy.querySelector("svg");
    const lines = figures.map(figure => figure ? values(figure.querySelector("polyline")) : []);
    const [x, y] = [0, 1].map(axis => lines.flat().map(point => point[axis]));
    const [left, right, low, high] = [Math.min(...x), Math.max(...x), Math.min(...y), Math.max(...y)];
    const place = ([a, b]) => `${((a - left) / (right - left || 1) * WIDTH).toFixed(1)},${((high - b) / (high - low || 1) * HEIGHT).toFixed(1)}`;
    const texts = svg.querySelectorAll("text"), short = value => Number(value.toPrecision(4)).toString().replace("-", "−");
    [short(high), short(low), `step ${right.toLocaleString("en")}`].forEach((words, index) => { texts[index].textContent = words; });
    const line = svg.querySelector("polyline");
    lines.forEach(points => {
      const other = line.cloneNode();
      other.setAttribute("points", points.map(place).join(" "));
      svg.append(other);
    });
    line.remove();
    svg.ariaLabel = figures.map(figure => figure?.querySelector("svg").ariaLabel).filter(Boolean).join("; ");
    return copy;
  };
  const curvesOf = rows => {
    const kinds = rows.map(row => new Map([...trainingOf(row)?.querySelectorAll(".curves figure") ?? []]
      .map(figure => [figure.firstElementChild.textContent, figure])));
    const curves = make("div", "", { className: "curves both" });
    curves.append(...[...new Set(kinds.flatMap(kind => [...kind.keys()]))].map(title => overlaid(kinds.map(kind => kind.get(title)))));
    return curves;
  };
  const samplesOf = rows => {
    const both = make("div", "", { className: "samples" });
    both.append(...rows.map((row, place) => {
      const figure = make("figure"), sheet = measuredOf(row)?.querySelector(".sheet");
      figure.append(make("figcaption", place ? "second" : "first"), sheet?.cloneNode(true) ?? make("p", "No samples here.", { className: "state" }));
      return figure;
    }));
    return both;
  };

  return (...rows) => {
    const elsewhere = rows.filter(row => !trainingOf(row)).map(row => {
      const link = row.cells[5].querySelector("a").cloneNode(true);
      link.textContent = `Training ${link.textContent} is described on a page of its own.`;
      return link;
    });
    const training = differing("Settings of the training", rows.map(trainingOf).map(settings));
    const measured = differing("Settings of sampling and measuring", rows.map(measuredOf).map(settings));
    const results = tableOf(rows, differing("Numbers", rows.map(numbers)));
    return [tableOf(rows, training, measured), curvesOf(rows), samplesOf(rows), results, ...elsewhere];
  };
})();
