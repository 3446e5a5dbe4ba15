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

  const choose = (rows, buttons, place, row) => {
    buttons.forEach((button, index) => { button.ariaPressed = String(rows[index] === row); });
    const link = row.cells[5].querySelector("a");
    const training = document.getElementById(link.hash.slice(1));
    if (training) place.replaceChildren(...copied(training));
    else place.replaceChildren(element("p"), Object.assign(link.cloneNode(true), { textContent: "This training is described on a page of its own." }));
  };

  const filled = (anchor, asked) => {
    const rows = rowsBeside(asked);
    const title = element("h2", `${rows[0].cells[0].textContent}, ${rows[0].cells[1].textContent} `, { tabIndex: -1 });
    title.append(element("a", "#", { href: `#${anchor}`, className: "permalink", ariaLabel: "Link to this panel" }));
    const seeds = element("p", "Seeds: ", { className: "seeds" });
    const place = element("div", "", { className: "chosen" });
    const buttons = rows.map(row => {
      const words = `${row.cells[2].textContent}: ${row.cells[3].textContent || row.cells[4].textContent}`;
      const button = element("button", words, { type: "button" });
      button.addEventListener("click", () => choose(rows, buttons, place, row));
      seeds.append(button, " ");
      return button;
    });
    content.replaceChildren(title, seeds, place);
    choose(rows, buttons, place, asked);
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
  if (rowOf(target())) {
    opener = document.querySelector(`main a[href="${CSS.escape(location.hash)}"], main a[href="${location.hash}"]`);
    opener?.scrollIntoView({ block: "center", behavior: "instant" });
  }
  follow();
})();
