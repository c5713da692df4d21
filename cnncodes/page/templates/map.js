"use strict";
// The map of the codes: thumbnails where there is room, points elsewhere. Other parts of a page talk to it by the events
// "choose" (the place of an image) and "rename" (the place of a class, and its name).
(function () {
  const source = document.getElementById("map-data");
  if (!source) return;
  const data = JSON.parse(source.textContent);
  const images = data.images.map(function (entry, place) {
    const wrong = entry.length > 6 && entry[6] !== entry[2];
    return { place: place, x: entry[0] / 10000, y: entry[1] / 10000, label: entry[2], part: entry[3], name: entry[4],
             near: entry[5], said: entry.length > 6 ? entry[6] : null, sure: entry[7], wrong: wrong };
  });
  const canvas = document.getElementById("map-canvas"), tip = document.getElementById("map-tip");
  const tiles = document.getElementById("map-tiles"), filter = document.getElementById("map-filter");
  const pen = canvas.getContext("2d"), chosenBox = document.getElementById("map-chosen");
  const margin = 34, dark = window.matchMedia("(prefers-color-scheme: dark)");
  const okabe = ["#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9"];
  let zoom = 1, left = 0, top = 0, width = 1, height = 1, hovered = null, chosen = null, points = false, planned = false;

  function colour(label) {
    if (label < 0) return "#888888";
    if (data.classes.length <= okabe.length) return okabe[label];
    return "hsl(" + (label * 137.508) % 360 + " 65% " + (label % 2 ? 42 : 56) + "%)";
  }
  function ink() { return dark.matches ? "#ffffff" : "#000000"; }
  function className(label) { return label === null || label < 0 ? data.without || "no label" : data.classes[label]; }
  function onScreen(image) {
    return [(margin + image.x * (width - 2 * margin)) * zoom + left, (margin + image.y * (height - 2 * margin)) * zoom + top];
  }
  function shown(image) {
    const wanted = filter.value;
    return wanted === "all" || (wanted === "wrong" ? image.wrong : image.label === Number(wanted));
  }
  function size() { return Math.min(data.side, Math.max(26, Math.min(40, width / 22) * Math.sqrt(zoom))); }
  function tile(target, place, x, y, side) {
    if (!tiles.complete || !tiles.naturalWidth) return;
    const s = data.side;
    target.drawImage(tiles, (place % data.columns) * s, Math.floor(place / data.columns) * s, s, s, x, y, side, side);
  }
  function dot(image, x, y, faint) {
    pen.globalAlpha = faint ? 0.15 : 1;
    pen.beginPath(); pen.arc(x, y, image.wrong ? 5 : 4, 0, 2 * Math.PI);
    pen.fillStyle = colour(image.label); pen.fill();
    if (image.wrong) { pen.lineWidth = 2.5; pen.strokeStyle = ink(); pen.stroke(); }
    pen.globalAlpha = 1;
  }
  function frame(image, x, y, side) {
    pen.lineWidth = 2; pen.strokeStyle = colour(image.label);
    pen.strokeRect(x - side / 2, y - side / 2, side, side);
    if (image.wrong) { pen.lineWidth = 3.5; pen.strokeStyle = ink(); pen.strokeRect(x - side / 2 - 2.5, y - side / 2 - 2.5, side + 5, side + 5); }
  }
  // Thumbnails take free cells of a grid, mistakes and what is chosen first, so none covers another.
  function draw() {
    planned = false;
    pen.clearRect(0, 0, width, height);
    const side = size(), taken = new Set(), order = [], near = chosen ? new Set(chosen.near) : new Set();
    images.forEach(function (image) {
      const place = onScreen(image), x = place[0], y = place[1];
      if (x < -side || y < -side || x > width + side || y > height + side) return;
      order.push({ image: image, x: x, y: y, rank: image === chosen ? 0 : near.has(image.place) ? 1 : image.wrong ? 2 : 3 });
    });
    order.sort(function (a, b) { return a.rank - b.rank; });
    const drawn = [];
    order.forEach(function (entry) {
      const faint = !shown(entry.image);
      if (!points && !faint) {
        const cells = [], step = side / 2;
        const i = Math.floor((entry.x - side / 2) / step), j = Math.floor((entry.y - side / 2) / step);
        for (let a = i; a <= i + 2; a++) for (let b = j; b <= j + 2; b++) cells.push(a + ":" + b);
        if (!cells.some(function (cell) { return taken.has(cell); })) {
          cells.forEach(function (cell) { taken.add(cell); });
          drawn.push(entry); entry.side = side; return;
        }
      }
      dot(entry.image, entry.x, entry.y, faint);
    });
    drawn.forEach(function (entry) {
      tile(pen, entry.image.place, entry.x - side / 2, entry.y - side / 2, side);
      frame(entry.image, entry.x, entry.y, side);
    });
    if (chosen) {
      const from = onScreen(chosen);
      pen.strokeStyle = ink(); pen.lineWidth = 1.5;
      chosen.near.forEach(function (place) {
        const to = onScreen(images[place]);
        pen.beginPath(); pen.moveTo(from[0], from[1]); pen.lineTo(to[0], to[1]); pen.stroke();
      });
      pen.lineWidth = 3; pen.beginPath(); pen.arc(from[0], from[1], 9, 0, 2 * Math.PI); pen.stroke();
    }
    if (hovered) {
      const place = onScreen(hovered);
      pen.lineWidth = 3; pen.strokeStyle = ink();
      pen.beginPath(); pen.arc(place[0], place[1], 8, 0, 2 * Math.PI); pen.stroke();
    }
  }
  function redraw() { if (!planned) { planned = true; requestAnimationFrame(draw); } }
  function fit() {
    const box = canvas.getBoundingClientRect(), ratio = window.devicePixelRatio || 1;
    const factor = width > 1 ? box.width / width : 1;
    width = box.width; height = box.height; left *= factor; top *= factor;
    canvas.width = Math.round(width * ratio); canvas.height = Math.round(height * ratio);
    pen.setTransform(ratio, 0, 0, ratio, 0, 0);
    redraw();
  }
  function zoomBy(factor, x, y) {
    const next = Math.min(40, Math.max(1, zoom * factor)), change = next / zoom;
    left = x - (x - left) * change; top = y - (y - top) * change; zoom = next;
    keepInside(); redraw();
  }
  function keepInside() {
    left = Math.min(0, Math.max(width * (1 - zoom), left)); top = Math.min(0, Math.max(height * (1 - zoom), top));
  }
  function at(x, y) {
    let best = null, least = 26;
    images.forEach(function (image) {
      if (!shown(image)) return;
      const place = onScreen(image), away = Math.hypot(place[0] - x, place[1] - y);
      if (away < least) { least = away; best = image; }
    });
    return best;
  }
  function small(image, side) {
    const made = document.createElement("canvas");
    made.width = made.height = side; made.setAttribute("role", "img"); made.setAttribute("aria-label", image.name);
    tile(made.getContext("2d"), image.place, 0, 0, side);
    return made;
  }
  function line(parent, text, kind) {
    const made = document.createElement("span");
    made.textContent = text; made.style.display = "block"; if (kind) made.className = kind;
    parent.appendChild(made);
  }
  function describe(parent, image) {
    const parts = ["not used", "training", "validation", "test"];
    line(parent, className(image.label) + (parts[image.part] ? " (" + parts[image.part] + ")" : ""));
    if (image.wrong) line(parent, "classified as " + className(image.said), "wrong-text");
    line(parent, image.name);
  }
  function hover(image, x, y) {
    if (image !== hovered) {
      hovered = image; canvas.classList.toggle("over", Boolean(image)); tip.replaceChildren();
      if (image) { tip.appendChild(small(image, 164)); describe(tip, image); }
      redraw();
    }
    tip.hidden = !image;
    if (image) {
      tip.style.left = Math.max(4, Math.min(width - 184, x + 16)) + "px";
      tip.style.top = Math.max(4, Math.min(height - tip.offsetHeight - 4, y + 16)) + "px";
    }
  }
  function choose(image) {
    chosen = image; chosenBox.replaceChildren();
    if (image) {
      const heading = document.createElement("h3"), row = document.createElement("div");
      heading.textContent = "This image and the images with the nearest codes";
      row.className = "chosen-row";
      [image].concat(image.near.map(function (place) { return images[place]; })).forEach(function (one, place) {
        const button = document.createElement("button");
        button.type = "button"; if (!place) button.className = "first";
        button.appendChild(small(one, 192)); describe(button, one);
        button.addEventListener("click", function () { choose(one); });
        row.appendChild(button);
      });
      chosenBox.append(heading, row);
    }
    redraw();
  }

  const fingers = new Map();
  let moved = 0, spread = 0;
  function place(event) { const box = canvas.getBoundingClientRect(); return [event.clientX - box.left, event.clientY - box.top]; }
  canvas.addEventListener("pointerdown", function (event) {
    fingers.set(event.pointerId, place(event)); moved = 0; spread = 0; canvas.setPointerCapture(event.pointerId);
  });
  canvas.addEventListener("pointermove", function (event) {
    const here = place(event), before = fingers.get(event.pointerId);
    if (!before) { hover(at(here[0], here[1]), here[0], here[1]); return; }
    if (fingers.size === 1) {
      moved += Math.hypot(here[0] - before[0], here[1] - before[1]);
      if (moved > 4) { left += here[0] - before[0]; top += here[1] - before[1]; keepInside(); hover(null, 0, 0); canvas.classList.add("moving"); redraw(); }
    }
    fingers.set(event.pointerId, here);
    if (fingers.size === 2) {
      const two = Array.from(fingers.values()), apart = Math.hypot(two[0][0] - two[1][0], two[0][1] - two[1][1]);
      if (spread) zoomBy(apart / spread, (two[0][0] + two[1][0]) / 2, (two[0][1] + two[1][1]) / 2);
      spread = apart; moved = 99;
    }
  });
  function lifted(event) {
    const here = place(event);
    if (event.type === "pointerup" && fingers.size === 1 && moved <= 4) choose(at(here[0], here[1]));
    fingers.delete(event.pointerId); spread = 0; canvas.classList.remove("moving");
  }
  canvas.addEventListener("pointerup", lifted);
  canvas.addEventListener("pointercancel", lifted);
  canvas.addEventListener("pointerleave", function () { hover(null, 0, 0); });
  canvas.addEventListener("wheel", function (event) {
    if (document.activeElement !== canvas && !event.ctrlKey && !event.metaKey) return; // the page scrolls
    event.preventDefault();
    const here = place(event);
    zoomBy(Math.exp(-event.deltaY / 400), here[0], here[1]);
  }, { passive: false });
  canvas.addEventListener("keydown", function (event) {
    const steps = { ArrowLeft: [60, 0], ArrowRight: [-60, 0], ArrowUp: [0, 60], ArrowDown: [0, -60] };
    if (steps[event.key]) { left += steps[event.key][0]; top += steps[event.key][1]; keepInside(); redraw(); }
    else if (event.key === "+" || event.key === "=") zoomBy(1.4, width / 2, height / 2);
    else if (event.key === "-") zoomBy(1 / 1.4, width / 2, height / 2);
    else if (event.key === "Enter") {
      let best = null, least = Infinity;
      images.filter(shown).forEach(function (image) {
        const p = onScreen(image), away = Math.hypot(p[0] - width / 2, p[1] - height / 2);
        if (away < least) { least = away; best = image; }
      });
      choose(best);
    }
    else if (event.key === "Escape") choose(null);
    else return;
    event.preventDefault();
  });
  document.getElementById("map-in").addEventListener("click", function () { zoomBy(1.6, width / 2, height / 2); });
  document.getElementById("map-out").addEventListener("click", function () { zoomBy(1 / 1.6, width / 2, height / 2); });
  document.getElementById("map-all").addEventListener("click", function () { zoom = 1; left = top = 0; redraw(); });
  document.getElementById("map-style").addEventListener("click", function (event) {
    points = !points; event.currentTarget.setAttribute("aria-pressed", String(points)); redraw();
  });
  filter.addEventListener("change", redraw);
  document.querySelectorAll(".map-class").forEach(function (key) { key.style.setProperty("--key", colour(Number(key.dataset.class))); });
  document.addEventListener("choose", function (event) { choose(images[event.detail]); chosenBox.scrollIntoView({ block: "nearest" }); });
  document.addEventListener("rename", function (event) {
    const place = event.detail.place;
    data.classes[place] = event.detail.name;
    Array.from(filter.options).filter(function (one) { return one.value === String(place); }).forEach(function (one) { one.textContent = event.detail.name; });
    document.querySelectorAll('.map-class[data-class="' + place + '"]').forEach(function (key) { key.textContent = event.detail.name; });
    if (chosen) choose(chosen);
  });
  dark.addEventListener("change", redraw);
  tiles.addEventListener("load", redraw);
  window.addEventListener("resize", fit);
  fit();
})();
