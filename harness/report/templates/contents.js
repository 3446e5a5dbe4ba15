// The contents stand open where there is room beside the page, and say in which section the reader is.
(() => {
  const contents = document.getElementById("contents");
  const beside = matchMedia("(min-width: 75rem)");
  const unfold = () => { contents.open = beside.matches; };
  beside.addEventListener("change", unfold);
  unfold();
  contents.addEventListener("click", event => { if (event.target.closest("a") && !beside.matches) contents.open = false; });

  const links = new Map([...contents.querySelectorAll("a")].map(link => [link.hash.slice(1), link]));
  const mark = () => {
    const begun = [...links.keys()].filter(id => document.getElementById(id)?.getBoundingClientRect().top < innerHeight / 3);
    const current = links.get(begun.at(-1) ?? [...links.keys()][0]);
    if (current.ariaCurrent) return;
    links.forEach(link => { link.removeAttribute("aria-current"); });
    current.setAttribute("aria-current", "true");
    current.scrollIntoView({ block: "nearest" });
  };
  let asked = false;
  addEventListener("scroll", () => {
    if (!asked) requestAnimationFrame(() => { asked = false; mark(); });
    asked = true;
  }, { passive: true });
  mark();
})();
