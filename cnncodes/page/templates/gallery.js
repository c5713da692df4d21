"use strict";
// Shows one group of images.
(function () {
  const filter = document.getElementById("filter"), cards = Array.from(document.querySelectorAll(".card"));
  filter.addEventListener("change", function () {
    cards.forEach(function (card) { card.hidden = filter.value !== "all" && card.dataset.group !== filter.value; });
  });
})();
