// Rows in the order of a column: a click on its head, and another for the other way round.
const sortable = (() => {
  const key = (row, column) => {
    const text = row.cells[column]?.textContent.trim() ?? "", first = /^[+−]?[\d.,]+/.exec(text)?.[0];
    return { text, number: parseFloat((first ?? "").replace("−", "-").replaceAll(",", "")), isNumber: first !== undefined };
  };
  const compare = (a, b) => a.isNumber && b.isNumber ? a.number - b.number : a.text.localeCompare(b.text, "en", { numeric: true });
  const sort = (table, head, column) => {
    const descending = head.ariaSort === "ascending";
    [...head.parentElement.cells].forEach(other => { other.removeAttribute("aria-sort"); });
    head.setAttribute("aria-sort", descending ? "descending" : "ascending");
    for (const body of table.tBodies) { // each block of rows by itself, its heading first
      const keyed = [...body.rows].filter(row => row.className !== "block").map(row => ({ row, key: key(row, column) }));
      keyed.sort((a, b) => !a.key.text - !b.key.text || (descending ? -1 : 1) * compare(a.key, b.key));
      body.append(...keyed.map(entry => entry.row));
    }
  };
  return table => {
    const heads = [...table.tHead.rows].at(-1).cells;
    const before = table.tHead.rows.length > 1 ? 1 : 0; // the corner, whose head is over two rows, counts in the last
    [...heads].forEach((head, place) => {
      const button = Object.assign(document.createElement("button"), { type: "button", textContent: head.textContent });
      head.replaceChildren(button);
      button.addEventListener("click", () => sort(table, head, place + before));
    });
  };
})();
(() => {
  const equip = () => document.querySelectorAll(".pivot:has(thead):not(:has(thead button))").forEach(sortable);
  const hint = () => document.querySelectorAll(".scroll").forEach(region => {
    region.classList.toggle("more", region.scrollWidth > region.clientWidth + 3);
  });
  document.addEventListener("renewed", () => { equip(); hint(); });
  document.addEventListener("toggle", hint, { capture: true });
  addEventListener("resize", hint);
  equip();
  hint();
})();
