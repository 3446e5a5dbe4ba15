// While a study is watched: the page takes in what is new, and keeps the place, what is open, sorted or typed.
(() => {
  const bar = document.querySelector("#live progress");
  const words = document.querySelector("#live span");
  const sections = page => new Map([...page.querySelectorAll("main > section[id], main > p.alarm")].map((s, i) => [s.id || `alarm-${i}`, s]));
  let version = Number(document.getElementById("live").dataset.version), shown = new Map();

  const named = details => `${details.parentElement.closest("[id]").id} ${details.firstElementChild.textContent}`;
  const opened = section => new Set([...section.querySelectorAll("details[open]")].map(named));
  const typed = () => ["filter-words", "filter-state"].map(id => document.getElementById(id).value);
  const sorted = () => {
    const heads = [...document.querySelectorAll("#all-runs thead th")];
    const column = heads.findIndex(head => head.ariaSort);
    return { column, direction: column < 0 ? "" : heads[column].ariaSort };
  };
  const resort = before => {
    const button = () => document.querySelectorAll("#all-runs thead th")[before.column].querySelector("button");
    if (before.column < 0) return;
    button().click();
    if (before.direction === "descending") button().click();
  };

  // What keeps its place is the block at the top of the window, where a section begins that one has jumped to: in the
  // page that comes it is the one of the same kind and number in its section, else the section. Scroll positions are
  // whole pixels and layout is not: a block that was scrolled to may begin a fraction above the window, and what
  // rounding leaves is made good the next time. The browser's own anchoring is off: it would move the page a frame
  // later, on top of what is done here.
  document.documentElement.style.overflowAnchor = "none";
  const LINE = 64; // pixels: above it is the end of the section before
  const BLOCKS = "h2, h3, h4, p, dt, dd, tr, figure, summary";
  const blocks = section => [...section.querySelectorAll(BLOCKS)].filter(block => block.checkVisibility());
  const alike = (section, block) => blocks(section).filter(other => other.localName === block.localName);
  let residue = 0;
  const inPlace = change => {
    const box = element => element.getBoundingClientRect();
    const section = [...document.querySelectorAll("main > section")].find(part => box(part).bottom > LINE);
    const block = section && blocks(section).find(part => box(part).bottom > LINE);
    const anchor = block ?? section;
    const place = anchor && box(anchor).top - residue;
    const number = block && alike(section, block).indexOf(block);
    change();
    if (!anchor) return;
    const after = document.getElementById(section.id) ?? section;
    const counterpart = (block && alike(after, block)[number]) ?? after;
    const shift = () => box(counterpart).top - place;
    if (shift()) scrollBy({ top: shift(), behavior: "instant" });
    residue = Math.abs(shift()) < 1 ? shift() : 0; // more is left where the page ends
  };

  // A scroll that is under way is let finish: the browser would cut it short, and add what it still owes to any place
  // that is set meanwhile.
  let scrolling = false;
  addEventListener("scroll", () => { scrolling = "onscrollend" in window; });
  addEventListener("scrollend", () => { scrolling = false; });
  const still = () => scrolling && new Promise(resolve => {
    addEventListener("scrollend", resolve, { once: true });
    setTimeout(resolve, 3000); // a reader who never rests still sees results
  });

  const renew = fresh => {
    const focused = document.activeElement?.id;
    const before = { typed: typed(), sorted: sorted(), index: false };
    const target = document.getElementById(decodeURIComponent(location.hash.slice(1)));
    for (const [id, section] of sections(fresh)) {
      const old = document.getElementById(id);
      if (!old || shown.get(id) === section.outerHTML) continue;
      const open = opened(old);
      const copy = document.importNode(section, true);
      old.replaceWith(copy);
      copy.querySelectorAll("details").forEach(details => { details.open = open.has(named(details)); });
      before.index ||= id === "index";
    }
    if (before.index) {
      document.dispatchEvent(new Event("renewed"));
      resort(before.sorted);
      ["filter-words", "filter-state"].forEach((id, i) => {
        const field = document.getElementById(id);
        field.value = before.typed[i];
        field.dispatchEvent(new Event(i ? "change" : "input"));
      });
      if (target?.classList.contains("training")) document.getElementById(target.id)?.classList.add("shown");
    }
    if (focused) document.getElementById(focused)?.focus({ preventScroll: true });
  };

  const fetched = async () => new DOMParser().parseFromString(await (await fetch("./", { cache: "no-store" })).text(), "text/html");
  const remember = page => { shown = new Map([...sections(page)].map(([id, section]) => [id, section.outerHTML])); };
  const look = async () => {
    try {
      const said = await (await fetch("progress.json", { cache: "no-store" })).json();
      bar.value = said.share;
      await still();
      if (words.textContent !== said.words) inPlace(() => { words.textContent = said.words; });
      if (said.version !== version) {
        const fresh = await fetched();
        await still();
        inPlace(() => renew(fresh));
        remember(fresh);
        version = said.version;
      }
    } catch {
      words.textContent = "The server has stopped; the page shows what was there then.";
    }
    setTimeout(look, 1000);
  };
  look();
})();
