// While a study is watched: the page takes in what is new, and keeps the place, what is open, sorted or typed.
(() => {
  const bar = document.querySelector("#live progress");
  const words = document.querySelector("#live span");
  const sections = page => new Map([...page.querySelectorAll("main > section[id], main > p.alarm")].map((s, i) => [s.id || `alarm-${i}`, s]));
  let version = null, shown = null;

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

  // What keeps its place is the section that begins in the window, else the one that fills it. The browser's own
  // anchoring is off: it would move the page a frame later, on top of what is done here.
  document.documentElement.style.overflowAnchor = "none";
  const inPlace = change => {
    const parts = [...document.querySelectorAll("main > section")];
    const top = section => section.getBoundingClientRect().top;
    const begins = parts.find(section => top(section) >= 0 && top(section) < innerHeight);
    const anchor = begins ?? parts.find(section => section.getBoundingClientRect().bottom > 0);
    const place = anchor && top(anchor);
    change();
    const now = anchor && top(document.getElementById(anchor.id) ?? anchor);
    if (anchor && now !== place) scrollBy({ top: now - place, behavior: "instant" });
  };

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

  const fetched = async () => new DOMParser().parseFromString(await (await fetch("/", { cache: "no-store" })).text(), "text/html");
  const remember = page => { shown = new Map([...sections(page)].map(([id, section]) => [id, section.outerHTML])); };
  const look = async () => {
    try {
      const said = await (await fetch("/progress.json", { cache: "no-store" })).json();
      bar.value = said.share;
      if (words.textContent !== said.words) inPlace(() => { words.textContent = said.words; });
      if (said.version !== version) {
        const fresh = await fetched();
        if (shown) inPlace(() => renew(fresh));
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
