"use strict";
(() => {
  const root = document.documentElement;
  const remembered = { // a browser may refuse to remember for a file
    get: () => { try { return localStorage.getItem("theme"); } catch { return null; } },
    set: value => { try { localStorage.setItem("theme", value); } catch { /* then it is not remembered */ } },
  };
  const button = document.getElementById("theme");
  const isDark = () => (root.dataset.theme || (matchMedia("(prefers-color-scheme: dark)").matches ? "dark" : "light")) === "dark";
  const say = () => { button.textContent = isDark() ? "Light theme" : "Dark theme"; };
  if (["dark", "light"].includes(remembered.get())) root.dataset.theme = remembered.get();
  button.hidden = false;
  button.addEventListener("click", () => {
    root.dataset.theme = isDark() ? "light" : "dark";
    remembered.set(root.dataset.theme);
    say();
  });
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", say);
  say();
})();
