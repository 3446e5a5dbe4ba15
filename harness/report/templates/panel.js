// What is behind a number: its seeds, and of each its curves, samples, protocol and command, in a panel beside the page,
// which stays where it is. The address names the panel, so that it can be sent to others.
(() => {
  const panel = document.getElementById("panel"), content = panel.querySelector("div");
  const element = (tag, words = "", properties = {}) => Object.assign(document.createElement(tag), { textContent: words }, properties);
  const target = () => decodeURIComponent(location.hash.slice(1));
  let opener = null;

  const rowOf = anchor => document.getElementById(anchor)?.closest("#all-runs tr"); // of a cell, or of one of its seeds
  const rowsBeside = row => [...document.querySelectorAll(`#all-runs tr[data-behind="${CSS.escape(row.dataset.behind)}"]`)];

  const copied = training => {
    const copy = training.cloneNode(true);
    copy.querySelectorAll("[id]").forEach(part => { part.removeAttribute("id"); });
    copy.removeAttribute("aria-labelledby");
    const command = copy.querySelector("dd > code");
    const button = element("button", "Copy", { type: "button", className: "copy" });
    button.addEventListener("click", async () => {
      await navigator.clipboard.writeText(command.textContent);
      button.textContent = "Copied";
    });
    command.after(" ", button);
    return [...copy.childNodes];
  };

  const described = row => {
    const link = row.cells[5].querySelector("a"), training = document.getElementById(link.hash.slice(1));
    return training ? copied(training) : [Object.assign(link.cloneNode(true), { textContent: "This training is described on a page of its own." })];
  };
  const seedOf = row => row.cells[2].textContent;
  const seedsOf = (chosen, label, pick) => {
    const rows = rowsBeside(chosen), seeds = element("p", label, { className: "seeds" });
    const press = row => buttons.forEach((button, place) => { button.ariaPressed = String(rows[place] === row); });
    const buttons = rows.map(row => {
      const button = element("button", `${seedOf(row)}: ${row.cells[3].textContent || row.cells[4].textContent}`, { type: "button" });
      button.addEventListener("click", () => { press(row); pick(row); });
      seeds.append(button, " ");
      return button;
    });
    press(chosen);
    return seeds;
  };
  const option = (words, value) => element("option", words, { value });
  let cells = []; // every cell of the study by its table, made once
  const group = () => {
    const groups = new Map();
    for (const row of document.querySelectorAll("#all-runs tr[id]")) {
      const table = row.cells[0].textContent;
      if (!groups.has(table)) groups.set(table, element("optgroup", "", { label: table }));
      groups.get(table).append(option(row.cells[1].textContent, row.id));
    }
    cells = [...groups.values()];
  };
  const choice = row => {
    const select = element("select");
    select.append(option("…", ""), ...(row.dataset.base ? [option("its baseline", row.dataset.base)] : []));
    select.addEventListener("focus", () => { // only who wants to compare waits for hundreds of choices
      if (!cells.length) group();
      select.append(...cells);
    }, { once: true });
    return select;
  };

  const filled = (anchor, asked) => {
    const title = element("h2", `${asked.cells[0].textContent}, ${asked.cells[1].textContent} `, { tabIndex: -1 });
    title.append(element("a", "#", { href: `#${anchor}`, className: "permalink", ariaLabel: "Link to this panel" }));
    const place = element("div", "", { className: "chosen" }), beside = element("div");
    let row = asked, other = null;
    const draw = () => {
      panel.classList.toggle("wide", other !== null);
      place.replaceChildren(...(other ? compared(row, other) : described(row)));
    };
    const select = choice(row), label = element("label", "Compare with ", { className: "against" });
    label.append(select);
    select.addEventListener("change", () => {
      const rows = select.value ? rowsBeside(rowOf(select.value)) : [];
      other = rows.find(theirs => seedOf(theirs) === seedOf(row)) ?? rows[0] ?? null;
      beside.replaceChildren(...(other ? [seedsOf(other, "Its seeds: ", theirs => { other = theirs; draw(); })] : []));
      draw();
    });
    content.replaceChildren(title, seedsOf(row, "Seeds: ", ours => { row = ours; draw(); }), label, beside, place);
    draw();
    return title;
  };

  const close = () => {
    if (!panel.open) return;
    panel.close();
    opener?.focus({ preventScroll: true });
  };
  const follow = () => {
    const row = rowOf(target());
    if (!row) return close();
    const title = filled(target(), row);
    if (!panel.open) panel.show();
    panel.scrollTop = 0;
    title.focus({ preventScroll: true });
  };
  const leave = () => {
    if (rowOf(target())) history.replaceState(null, "", location.pathname + location.search);
    close();
  };

  document.addEventListener("click", event => {
    const link = event.target.closest('a[href^="#runs-"]');
    const hash = link?.getAttribute("href"); // a mark of a figure has no other
    if (!link || event.ctrlKey || event.metaKey || event.shiftKey || !rowOf(decodeURIComponent(hash.slice(1)))) return;
    event.preventDefault();
    if (!panel.contains(link)) opener = link;
    history.pushState(null, "", hash);
    follow();
  });
  document.addEventListener("keydown", event => { if (event.key === "Escape" && panel.open) leave(); });
  panel.querySelector("button").addEventListener("click", leave);
  addEventListener("popstate", follow);
  document.addEventListener("renewed", () => { cells = []; });
  if (rowOf(target())) {
    opener = document.querySelector(`main a[href="${CSS.escape(location.hash)}"], main a[href="${location.hash}"]`);
    opener?.scrollIntoView({ block: "center", behavior: "instant" });
  }
  follow();
})();
