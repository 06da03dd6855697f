"use strict";
(() => {
  // What a token's title says on hover stands below its text, for the keyboard and for touch too.
  for (const heat of document.querySelectorAll(".heat")) {
    const [text, detail] = [heat.querySelector("pre"), heat.querySelector("output")];
    let chosen = null;
    const choose = (token) => {
      if (!token) return;
      chosen?.classList.remove("chosen");
      chosen = token;
      chosen.classList.add("chosen");
      detail.textContent = chosen.title;
    };
    text.addEventListener("pointerover", (event) => choose(event.target.closest(".token")));
    text.addEventListener("click", (event) => choose(event.target.closest(".token")));
    text.addEventListener("keydown", (event) => {
      const next = { ArrowRight: "nextElementSibling", ArrowLeft: "previousElementSibling" }[event.key];
      if (!next) return;
      event.preventDefault();
      choose(chosen ? chosen[next] : text.firstElementChild);
      chosen?.scrollIntoView({ block: "nearest" });
    });
  }
})();
