// The explorer: the generator runs here, and whatever is moved is drawn in the next frame. Its data come from gan/pages/explorer.py.
"use strict";

const explorer = (() => {
  const SIDE = 28;
  const PIXELS = SIDE * SIDE;
  const SPAN = 1.5; // as in gan/pages/latents.py
  const FRAME_MILLISECONDS = 10; // of computing, then the rest waits for the next one

  async function load(text) {
    const data = JSON.parse(text);
    const packed = Uint8Array.from(atob(data.bytes), (character) => character.charCodeAt(0));
    const stream = new Blob([packed]).stream().pipeThrough(new DecompressionStream("deflate"));
    const all = await new Response(stream).arrayBuffer();
    const bytes = (name) => new Uint8Array(all.slice(data.sections[name][0], data.sections[name][0] + data.sections[name][1]));
    const floats = (name) => new Float32Array(bytes(name).buffer);
    const unpack = (name) =>
      network.unpack(data[name], bytes(`${name}_low`), bytes(`${name}_high`), floats(`${name}_steps`));
    const halves = bytes("training");
    const training = new Float32Array(2 * halves.length);
    halves.forEach((byte, index) => {
      training[2 * index] = ((byte >> 4) * data.training.gray_step) / 127.5 - 1;
      training[2 * index + 1] = ((byte & 15) * data.training.gray_step) / 127.5 - 1;
    });
    return { ...data, weights: { generator: unpack("generator"), judge: unpack("judge") }, training_images: training,
      direction_vectors: floats("directions") };
  }

  // standard-normal numbers from a seed, as in gan/pages/latents.py
  function latentsOf(seed, count) {
    let state = (Math.imul(seed, 2654435761) + 88675123) >>> 0 || 1;
    const uniform = () => {
      state ^= state << 13;
      state ^= state >>> 17;
      state ^= state << 5;
      return (state >>> 0) / 2 ** 32;
    };
    return Float32Array.from({ length: count }, () => {
      const one = uniform();
      return Math.sqrt(-2 * Math.log(one)) * Math.cos(2 * Math.PI * uniform());
    });
  }

  // the digit that is asked for, as ten weights
  const onlyDigit = (digit) => Float32Array.from({ length: 10 }, (_, index) => (index === digit ? 1 : 0));

  // the image Float32Array [784] in [-1, 1] of latents
  function generate(model, latents, digits) {
    const rule = model.one_hot;
    if (rule === null) return network.run(model.generator, model.weights.generator, latents);
    const asked = rule.of === "labels";
    const input = new Float32Array(latents.length + (asked ? rule.count : rule.bounds.length + 1));
    input.set(latents);
    if (asked) digits.forEach((weight, index) => (input[latents.length + index] = rule.scale * weight));
    else input[latents.length + rule.bounds.filter((bound) => Math.fround(bound) <= latents[0]).length] = rule.scale;
    return network.run(model.generator, model.weights.generator, input);
  }

  const judge = (model, image) => network.run(model.judge, model.weights.judge, image);

  // the nearest training image's place, and its squared distance
  function nearest(model, image) {
    let best = { index: -1, square: Infinity };
    for (let index = 0; index < model.training.count; index++) {
      let square = 0;
      for (let i = 0, from = index * PIXELS; i < PIXELS && square < best.square; i++) {
        const difference = image[i] - model.training_images[from + i];
        square += difference * difference;
      }
      if (square < best.square) best = { index, square };
    }
    return best;
  }

  function planePoint(corners, [across, up]) {
    const count = corners.length / 3;
    const length = Math.hypot(1, SPAN * across, SPAN * up);
    return Float32Array.from({ length: count }, (_, i) =>
      (corners[i] + SPAN * across * corners[count + i] + SPAN * up * corners[2 * count + i]) / length);
  }

  // along the arc from one sample to another: in between, the straight line would be nearer to 0 than samples are
  function between(from, to, share) {
    const dot = from.reduce((sum, value, i) => sum + value * to[i], 0);
    const angle = Math.acos(Math.min(1, Math.max(-1, dot / (Math.hypot(...from) * Math.hypot(...to) || 1))));
    const [a, b] = angle < 1e-3 ? [1 - share, share]
      : [Math.sin((1 - share) * angle) / Math.sin(angle), Math.sin(share * angle) / Math.sin(angle)];
    return from.map((value, i) => a * value + b * to[i]);
  }

  function paint(canvas, image, left = 0, top = 0) {
    const pixels = new ImageData(SIDE, SIDE);
    for (let i = 0; i < PIXELS; i++) {
      const gray = Math.round((image[i] + 1) * 127.5);
      pixels.data.set([gray, gray, gray, 255], 4 * i);
    }
    canvas.getContext("2d").putImageData(pixels, left, top);
  }

  const waiting = new Map(); // see ask

  function show(model, root) {
    const find = (name) => root.querySelector(`[data-part="${name}"]`);
    const all = (name) => [...root.querySelectorAll(`[data-part="${name}"]`)];
    const conditional = model.text !== "";
    const [square, mosaic, handle] = ["square", "mosaic", "handle"].map(find);
    const sliders = all("direction");
    const keeps = all("keep");
    const columns = mosaic.width / SIDE;
    const state = { place: [0, 0], digits: onlyDigit(conditional ? Number(model.text[0]) : 0), morphing: false };
    let corners = null;
    const kept = [];

    const moved = (latents) => {
      const result = latents.slice();
      sliders.forEach((slider, index) => {
        const from = index * result.length;
        for (let i = 0; i < result.length; i++) result[i] += slider.valueAsNumber * model.direction_vectors[from + i];
      });
      return result;
    };
    const current = () => {
      if (!state.morphing) return { latents: planePoint(corners, state.place), digits: state.digits };
      const share = find("morph").valueAsNumber;
      return {
        latents: between(kept[0].latents, kept[1].latents, share),
        digits: kept[0].digits.map((value, i) => (1 - share) * value + share * kept[1].digits[i]),
      };
    };

    // What is to be drawn, by name, in the order of asking: the image first, all else as a frame's time allows. What is asked for
    // again keeps its turn, so that nothing waits for ever while somebody drags.
    let image = null;

    function ask(name, job) {
      if (waiting.size === 0) requestAnimationFrame(frame);
      waiting.set(name, job);
    }

    function frame() {
      const end = performance.now() + FRAME_MILLISECONDS;
      const first = waiting.get("image");
      if (first) {
        waiting.delete("image");
        first();
      }
      for (const [name, job] of waiting) {
        waiting.delete(name);
        job();
        if (performance.now() >= end) break;
      }
      if (waiting.size > 0) requestAnimationFrame(frame);
    }

    function change() {
      ask("image", () => {
        const { latents, digits } = current();
        image = generate(model, moved(latents), digits);
        paint(find("image"), image);
      });
      ask("opinion", comment);
      handle.classList.toggle("left", state.morphing); // the image is then none of the plane's
      const { digits } = current();
      all("digit").forEach((choice) => (choice.checked = digits[choice.value] === 1));
      if (conditional) write();
    }

    function comment() {
      const opinion = judge(model, image);
      const digit = opinion.indexOf(Math.max(...opinion));
      all("bar").forEach((bar, index) => bar.style.setProperty("--share", opinion[index]));
      find("opinion").textContent = `${digit}, ${Math.round(100 * opinion[digit])} %`;
      find("image").setAttribute("aria-label", `Generated image; the judge says ${find("opinion").textContent}`);
      const near = nearest(model, image);
      paint(find("nearest"), model.training_images.subarray(near.index * PIXELS, (near.index + 1) * PIXELS));
      const limit = Math.sqrt(model.training.copy_thresholds[digit]);
      const distance = Math.sqrt(near.square);
      find("distance").textContent = `${distance.toFixed(1)}${distance < limit ? ": a copy" : ""}`;
      find("limit").textContent = limit.toFixed(1);
    }

    function write() {
      const text = find("text").value.replace(/\D/g, "");
      const canvas = find("written");
        if (canvas.dataset.text !== text) {
        canvas.width = SIDE * Math.max(1, text.length); // this also clears it
        canvas.dataset.text = text;
        canvas.setAttribute("aria-label", `The number ${text}, written by the generator`);
      }
      [...text].forEach((digit, index) => ask(`digit ${index}`, () => {
        if (index < canvas.dataset.text.length) {
          const wish = onlyDigit(Number(canvas.dataset.text[index]));
          paint(canvas, generate(model, moved(current().latents), wish), SIDE * index);
        }
      }));
    }

    // the plane's images from the middle outwards
    function refill() {
      const middle = (columns - 1) / 2;
      const far = ([column, row]) => Math.max(Math.abs(column - middle), Math.abs(row - middle));
      const cells = Array.from({ length: columns * columns }, (_, i) => [i % columns, Math.floor(i / columns)]);
      cells.sort((one, other) => far(one) - far(other));
      cells.forEach(([column, row]) => ask(`plane ${column} ${row}`, () => {
        const place = [(2 * column) / (columns - 1) - 1, 1 - (2 * row) / (columns - 1)];
        paint(mosaic, generate(model, moved(planePoint(corners, place)), state.digits), SIDE * column, SIDE * row);
      }));
    }

    function goTo(across, up) {
      state.place = [across, up].map((value) => Math.min(1, Math.max(-1, value)));
      state.morphing = false;
      handle.style.left = `${50 + 50 * state.place[0]}%`;
      handle.style.top = `${50 - 50 * state.place[1]}%`;
      handle.setAttribute("aria-valuenow", state.place[0].toFixed(2));
      handle.setAttribute("aria-valuetext", `${state.place[0].toFixed(2)} across, ${state.place[1].toFixed(2)} up`);
      change();
    }

    const paintKept = (index) =>
      paint(all("kept")[index], generate(model, moved(kept[index].latents), kept[index].digits));

    function keep(index) {
      kept[index] = current();
      if (state.morphing) find("morph").value = index; // or the image would now lie elsewhere between the two
      paintKept(index);
    }

    // what the directions move: everything that is generated
    function bend() {
      change();
      kept.forEach((_, index) => ask(`kept ${index}`, () => paintKept(index)));
      refill();
    }

    function sow(seed) {
      corners = latentsOf(seed, 3 * model.latent_dim);
      goTo(0, 0);
      refill();
    }

    const drag = (event) => {
      const box = square.getBoundingClientRect();
      goTo((2 * (event.clientX - box.left)) / box.width - 1, 1 - (2 * (event.clientY - box.top)) / box.height);
    };
    square.addEventListener("pointerdown", (event) => {
      if (event.button) return; // the menu's
      event.preventDefault();
      square.setPointerCapture(event.pointerId);
      handle.focus({ preventScroll: true });
      drag(event);
    });
    square.addEventListener("pointermove", (event) => square.hasPointerCapture(event.pointerId) && drag(event));
    const arrows = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, 1], ArrowDown: [0, -1] };
    handle.addEventListener("keydown", (event) => {
      if (event.altKey || event.ctrlKey || event.metaKey) return; // the browser's own: Alt+ArrowLeft goes back
      const step = event.shiftKey ? 0.25 : 0.05;
      if (event.key in arrows) goTo(...arrows[event.key].map((way, axis) => state.place[axis] + way * step));
      else if (event.key === "Home") goTo(0, 0);
      else return;
      event.preventDefault();
    });
    find("seed").addEventListener("input", (event) => event.target.validity.valid && sow(event.target.valueAsNumber));
    find("seed").addEventListener("change", (event) => event.target.reportValidity());
    find("new-seed").addEventListener("click", () => {
      find("seed").value = Math.floor(Math.random() * 1e6);
      sow(find("seed").valueAsNumber);
    });
    sliders.forEach((slider) => slider.addEventListener("input", bend));
    find("straighten").addEventListener("click", () => {
      sliders.forEach((slider) => (slider.value = 0));
      bend();
    });
    find("morph").addEventListener("input", () => { state.morphing = true; change(); });
    keeps.forEach((button, index) => button.addEventListener("click", () => keep(index)));
    if (conditional) {
      find("text").addEventListener("input", change);
      // no change: what is checked already may be the digit of a morph
      all("digit").forEach((choice) => choice.addEventListener("click", () => {
        state.digits = onlyDigit(Number(choice.value));
        state.morphing = false;
        change();
        refill();
      }));
    }
    sow(model.seed);
    state.place = [-0.8, 0.8];
    keep(0);
    state.place = [0.8, -0.8];
    keep(1);
    goTo(0, 0);
    root.querySelectorAll("[data-scripted]").forEach((element) => (element.hidden = false));
    find("still").hidden = true;
    square.classList.add("scripted");
  }

  const root = document.getElementById("explorer");
  const ready = (async () => {
    if (root === null) return null;
    if (typeof DecompressionStream === "undefined") {
      root.querySelector('[data-part="too-old"]').hidden = false;
      return null;
    }
    const model = await load(document.getElementById("explorer-data").textContent);
    show(model, root);
    return model;
  })();

  return { ready, generate, judge, nearest, latentsOf, onlyDigit, idle: () => waiting.size === 0 };
})();
