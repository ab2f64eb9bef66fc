"use strict";
(() => {
  const dialog = document.getElementById("enlarged");
  const [box, words] = [dialog.querySelector("div"), dialog.querySelector("p")];
  const pictures = ".photo img, .set img, .near svg";

  const open = (picture) => {
    const frame = picture.closest(".photo") ?? picture;
    box.replaceChildren(frame.cloneNode(true));
    words.textContent = picture.getAttribute("aria-label") ?? picture.title;
    dialog.showModal();
  };

  for (const picture of document.querySelectorAll(pictures)) {
    picture.setAttribute("tabindex", "0");
    picture.classList.add("opens");
  }
  document.addEventListener("click", (event) => {
    if (dialog.open) return void dialog.close();
    const picture = event.target.closest(".photo, .set img, .near svg");
    const inner = picture?.matches(".photo") ? picture.querySelector("img") : picture;
    if (inner) open(inner);
  });
  document.addEventListener("keydown", (event) => {
    if (event.key === "Enter" && event.target.matches?.(pictures)) { event.preventDefault(); open(event.target); }
  });
})();
