// Figures: what a mark is, at once, under the pointer and with the keyboard's focus; series that are hidden.
(() => {
  const tip = Object.assign(document.createElement("div"), { id: "tip", hidden: true, ariaHidden: "true" });
  document.body.append(tip);
  const show = event => {
    const mark = event.target.closest?.(".plot a, .forest tr"), words = mark?.querySelector("title")?.textContent;
    tip.hidden = !words;
    if (!words) return;
    tip.textContent = words;
    const box = (mark.querySelector("circle:last-child, use") ?? mark).getBoundingClientRect();
    tip.style.left = `${Math.min(box.left, innerWidth - tip.offsetWidth - 8)}px`;
    tip.style.top = `${box.top > tip.offsetHeight + 8 ? box.top - tip.offsetHeight - 4 : box.bottom + 4}px`;
  };
  document.addEventListener("pointerover", show);
  document.addEventListener("focusin", show);
  document.addEventListener("scroll", () => show({ target: document.activeElement }), { passive: true }); // focus scrolls

  // A figure is one stop of the keyboard; arrows go from mark to mark, Enter follows one, or hides a series.
  const step = { ArrowRight: 1, ArrowDown: 1, ArrowLeft: -1, ArrowUp: -1 };
  const toggle = key => {
    const shown = key.ariaPressed !== "true";
    key.ariaPressed = String(shown);
    key.closest("svg").querySelectorAll(`[data-series="${CSS.escape(key.dataset.key)}"]`).forEach(part => part.classList.toggle("off", !shown));
  };
  document.addEventListener("click", event => {
    const key = event.target.closest("[data-key]");
    if (key) toggle(key);
  });
  document.addEventListener("keydown", event => {
    if (event.key === "Escape") tip.hidden = true;
    const mark = event.target.closest?.(".plot svg a"), key = event.target.closest?.("[data-key]");
    if (key && ["Enter", " "].includes(event.key)) toggle(key);
    else if (mark && step[event.key]) {
      const marks = [...mark.closest("svg").querySelectorAll("a:not([aria-hidden], .off a)")];
      marks[(marks.indexOf(mark) + step[event.key] + marks.length) % marks.length].focus();
    } else return;
    event.preventDefault();
  });
  const equip = () => document.querySelectorAll("[data-key]:not([role])").forEach(key => {
    key.setAttribute("role", "button");
    key.setAttribute("tabindex", "0");
    key.ariaPressed = "true";
  });
  document.addEventListener("renewed", equip);
  equip();
})();

// Samples without and with the loss, enlarged over each other, and a slider between them.
(() => {
  const images = [...document.querySelectorAll(".seen img")].slice(-2);
  if (images.length < 2) return;
  const element = (tag, properties) => Object.assign(document.createElement(tag), properties);
  const stage = element("div", { className: "stage" });
  stage.append(...images.map(image => image.cloneNode()));
  const slider = element("input", { type: "range", min: 0, max: 100, value: 50, ariaLabel: "From samples without the loss to those with it" });
  const slide = () => { stage.style.setProperty("--share", `${slider.value}%`); };
  slider.addEventListener("input", slide);
  slide();
  const zoom = element("dialog", { id: "zoom", ariaLabel: "Samples, enlarged" });
  const close = element("button", { type: "button", textContent: "Close" });
  close.addEventListener("click", () => zoom.close());
  const label = element("label", { className: "slide" });
  label.append("with the loss ", slider, " without");
  zoom.append(close, stage, label);
  const open = element("button", { type: "button", textContent: "Enlarge and compare" });
  open.addEventListener("click", () => zoom.showModal());
  document.querySelector(".seen").append(open);
  document.body.append(zoom);
})();
