// The latent explorer: the decoders run here, in the reader's browser.
"use strict";

(function explorer() {
  const root = document.getElementById("explorer-app");
  if (!root) return;
  const { models, side, images, digits } = vaelab.data("explorer-data");
  const pixels = side * side;
  const sprites = vaelab.bytes(images);
  const find = (id) => document.getElementById(id);
  const plane = find("plane");
  const picture = find("picture");
  const strip = find("strip");
  const walk = find("walk");
  const sliders = [find("z1"), find("z2")];
  root.hidden = false;
  const STRIP = 9;

  const state = {
    model: null,
    z: [0, 0],
    label: 0,
    hidden: new Set(), // digits whose codes are not drawn
    from: 0,
    to: Number(find("to").dataset.initial),
  };

  // ---- decoder -------------------------------------------------------------------------

  /** Steps, biases and the whole numbers of all layers, as `pack` in Python wrote them. */
  async function unpack({ shapes, data }) {
    const buffer = await vaelab.inflate(data);
    const bytes = new Uint8Array(buffer);
    const layers = [];
    let offset = 0;
    for (const [out, width] of shapes) {
      const numbers = new Float32Array(buffer, offset, 2 * out);
      layers.push({ out, width, step: numbers.subarray(0, out), bias: numbers.subarray(out) });
      offset += 8 * out;
    }
    const total = shapes.reduce((sum, [out, width]) => sum + out * width, 0);
    let low = offset;
    let high = offset + total;
    for (const layer of layers) {
      layer.weight = new Float32Array(layer.out * layer.width);
      for (let i = 0; i < layer.out; i++) {
        for (let j = 0; j < layer.width; j++) {
          const whole = bytes[low++] + 256 * ((bytes[high++] << 24) >> 24);
          layer.weight[i * layer.width + j] = whole * layer.step[i];
        }
      }
    }
    return layers;
  }

  /** Pixel means in [0, 1] of one code. */
  function decode(model, z, label) {
    let input = new Float32Array(2 + model.decoder.labels);
    input.set(z);
    if (model.decoder.labels) input[2 + label] = 1;
    model.layers.forEach(({ out, width, weight, bias }, index) => {
      const last = index === model.layers.length - 1;
      const output = new Float32Array(out);
      for (let i = 0; i < out; i++) {
        let sum = bias[i];
        for (let j = 0, at = i * width; j < width; j++) sum += weight[at + j] * input[j];
        output[i] = last ? 1 / (1 + Math.exp(-sum)) : Math.max(sum, 0);
      }
      input = output;
    });
    return input;
  }

  function paint(context, means, left = 0, top = 0) {
    const image = context.createImageData(side, side);
    for (let i = 0; i < pixels; i++) {
      image.data.fill(Math.round(255 * means[i]), 4 * i, 4 * i + 3);
      image.data[4 * i + 3] = 255;
    }
    context.putImageData(image, left, top);
  }

  const sprite = (index) =>
    Float32Array.from(sprites.subarray(index * pixels, (index + 1) * pixels), (v) => v / 255);

  // ---- drawing -------------------------------------------------------------------------

  const backdrop = document.createElement("canvas");
  let scale = 1; // device pixels of the plane

  const toPlane = ([x, y]) => {
    const { reach } = state.model;
    return [((x + reach) / (2 * reach)) * scale, ((reach - y) / (2 * reach)) * scale];
  };

  /** Axes and codes, drawn once for a model, a theme and a size. */
  function drawBackdrop() {
    const { reach, points, labels } = state.model;
    const ratio = devicePixelRatio || 1;
    scale = Math.max(1, Math.round(plane.clientWidth * ratio));
    for (const canvas of [plane, backdrop]) canvas.width = canvas.height = scale;
    const context = backdrop.getContext("2d");
    context.strokeStyle = vaelab.colour("--rule");
    context.fillStyle = vaelab.colour("--muted");
    context.lineWidth = ratio;
    context.font = `${11 * ratio}px ${getComputedStyle(document.body).fontFamily}`;
    const spacing = reach > 6 ? 2 : 1;
    for (let tick = -Math.floor(reach / spacing) * spacing; tick <= reach; tick += spacing) {
      const [x, y] = toPlane([tick, tick]);
      context.globalAlpha = tick === 0 ? 1 : 0.45;
      context.beginPath();
      context.moveTo(x, 0);
      context.lineTo(x, scale);
      context.moveTo(0, y);
      context.lineTo(scale, y);
      context.stroke();
      context.globalAlpha = 1;
      context.fillText(String(tick), x + 3 * ratio, scale - 5 * ratio);
      if (tick !== 0) context.fillText(String(tick), 4 * ratio, y - 3 * ratio);
    }
    const palette = Array.from({ length: 10 }, (_, d) => vaelab.colour(`--digit-${d}`));
    context.globalAlpha = 0.75;
    for (let i = 0; i < labels.length; i++) {
      if (state.hidden.has(labels[i])) continue;
      const [x, y] = toPlane([points[2 * i], points[2 * i + 1]]);
      context.fillStyle = palette[labels[i]];
      context.beginPath();
      context.arc(x, y, 1.9 * ratio, 0, 2 * Math.PI);
      context.fill();
    }
    context.globalAlpha = 1;
  }

  function drawPlane() {
    const ratio = devicePixelRatio || 1;
    const context = plane.getContext("2d");
    const ink = vaelab.colour("--ink");
    const paper = vaelab.colour("--card");
    context.clearRect(0, 0, scale, scale);
    context.drawImage(backdrop, 0, 0);
    const [a, b] = [state.from, state.to].map((index) => toPlane(state.model.examples[index]));
    context.strokeStyle = ink;
    context.lineWidth = 1.5 * ratio;
    context.setLineDash([5 * ratio, 4 * ratio]);
    context.beginPath();
    context.moveTo(...a);
    context.lineTo(...b);
    context.stroke();
    context.setLineDash([]);
    const dot = ([x, y], radius, fill) => {
      context.beginPath();
      context.arc(x, y, radius * ratio, 0, 2 * Math.PI);
      context.fillStyle = fill;
      context.fill();
      context.stroke();
    };
    dot(a, 4, paper);
    dot(b, 4, paper);
    const [x, y] = toPlane(state.z);
    context.strokeStyle = paper;
    dot([x, y], 8, ink);
    context.lineWidth = 2 * ratio;
    context.beginPath();
    context.moveTo(x - 4 * ratio, y);
    context.lineTo(x + 4 * ratio, y);
    context.moveTo(x, y - 4 * ratio);
    context.lineTo(x, y + 4 * ratio);
    context.stroke();
  }

  function nearest() {
    const { points, labels } = state.model;
    let best = 0;
    let least = Infinity;
    for (let i = 0; i < labels.length; i++) {
      const distance = (points[2 * i] - state.z[0]) ** 2 + (points[2 * i + 1] - state.z[1]) ** 2;
      if (distance < least) [best, least] = [i, distance];
    }
    return { digit: labels[best], distance: Math.sqrt(least) };
  }

  function drawStrip() {
    const context = strip.getContext("2d");
    const [a, b] = [state.from, state.to].map((index) => state.model.examples[index]);
    for (let i = 0; i < STRIP; i++) {
      const t = i / (STRIP - 1);
      const z = [0, 1].map((axis) => (1 - t) * a[axis] + t * b[axis]);
      paint(context, decode(state.model, z, state.label), i * side, 0);
    }
  }

  // ---- state ---------------------------------------------------------------------------

  /** Move to a code and show what it decodes to. */
  function move(z, announce = true) {
    const { reach } = state.model;
    state.z = z.map((value) => Math.min(reach, Math.max(-reach, value)));
    paint(picture.getContext("2d"), decode(state.model, state.z, state.label));
    picture.dataset.z = JSON.stringify(state.z);
    picture.dataset.model = state.model.name;
    picture.dataset.label = state.label;
    sliders.forEach((slider, axis) => {
      slider.value = state.z[axis];
      slider.parentElement.querySelector("output").textContent = state.z[axis].toFixed(2);
    });
    drawPlane();
    if (announce) {
      const { digit, distance } = nearest();
      find("nearest").textContent =
        `Nearest test code: a ${digit}, ${distance.toFixed(2)} away.`;
    }
  }

  function redraw() {
    if (!state.model) return;
    drawBackdrop();
    drawPlane();
  }

  async function select(name) {
    const model = models.find((m) => m.name === name);
    model.layers ??= await unpack(model.decoder);
    model.points ??= new Float32Array(vaelab.bytes(model.codes).buffer);
    model.labels ??= vaelab.bytes(model.digits);
    state.model = model;
    for (const slider of sliders) {
      slider.min = -model.reach;
      slider.max = model.reach;
    }
    find("label").disabled = !model.decoder.labels;
    find("label").hidden = !model.decoder.labels;
    drawBackdrop();
    drawStrip();
    move(state.z);
    root.dataset.ready = name;
  }

  // ---- input ---------------------------------------------------------------------------

  function fromPointer(event) {
    const box = plane.getBoundingClientRect();
    const { reach } = state.model;
    move([
      ((event.clientX - box.left) / box.width) * 2 * reach - reach,
      reach - ((event.clientY - box.top) / box.height) * 2 * reach,
    ]);
  }
  plane.addEventListener("pointerdown", (event) => {
    plane.setPointerCapture(event.pointerId);
    fromPointer(event);
  });
  plane.addEventListener("pointermove", (event) => {
    if (plane.hasPointerCapture(event.pointerId)) fromPointer(event);
  });
  plane.addEventListener("keydown", (event) => {
    const step = event.shiftKey ? 0.5 : 0.1;
    const steps = {
      ArrowLeft: [-step, 0],
      ArrowRight: [step, 0],
      ArrowUp: [0, step],
      ArrowDown: [0, -step],
    };
    if (event.key === "Home") move([0, 0]);
    else if (steps[event.key]) move(state.z.map((v, axis) => v + steps[event.key][axis]));
    else return;
    event.preventDefault();
  });
  sliders.forEach((slider, axis) => {
    slider.addEventListener("input", () => {
      move(state.z.map((v, other) => (other === axis ? Number(slider.value) : v)));
    });
  });
  for (const input of root.querySelectorAll("input[name='model']")) {
    input.addEventListener("change", () => select(input.value));
  }
  for (const input of root.querySelectorAll("input[name='label']")) {
    input.addEventListener("change", () => {
      state.label = Number(input.value);
      drawStrip();
      move(state.z);
    });
  }
  for (const button of root.querySelectorAll("button[data-digit]")) {
    button.addEventListener("click", () => {
      const digit = Number(button.dataset.digit);
      const on = button.getAttribute("aria-pressed") !== "true";
      button.setAttribute("aria-pressed", String(on));
      state.hidden[on ? "delete" : "add"](digit);
      redraw();
    });
  }

  function walkTo(t) {
    walk.value = t;
    const [a, b] = [state.from, state.to].map((index) => state.model.examples[index]);
    move([0, 1].map((axis) => (1 - t) * a[axis] + t * b[axis]));
  }
  for (const end of ["from", "to"]) {
    const list = find(end);
    digits.forEach((digit, index) => {
      const label = document.createElement("label");
      const input = document.createElement("input");
      const canvas = document.createElement("canvas");
      input.type = "radio";
      input.name = end;
      input.value = index;
      input.checked = index === state[end];
      input.setAttribute("aria-label", `test image ${index + 1}, a ${digit}`);
      canvas.width = canvas.height = side;
      paint(canvas.getContext("2d"), sprite(index));
      input.addEventListener("change", () => {
        state[end] = index;
        drawStrip();
        walkTo(end === "from" ? 0 : 1);
      });
      label.append(input, canvas);
      list.append(label);
    });
    list.scrollLeft = list.querySelector("input:checked").parentElement.offsetLeft;
  }
  walk.addEventListener("input", () => walkTo(Number(walk.value)));

  let frame = null;
  const play = find("play");
  play.addEventListener("click", () => {
    if (frame !== null) {
      cancelAnimationFrame(frame);
      frame = null;
    } else {
      const start = performance.now();
      const step = (now) => {
        const t = Math.min(1, (now - start) / 2500);
        walkTo(t);
        frame = t < 1 ? requestAnimationFrame(step) : null;
        if (frame === null) play.textContent = "Play";
      };
      frame = requestAnimationFrame(step);
    }
    play.textContent = frame === null ? "Play" : "Stop";
  });

  vaelab.onTheme(redraw);
  new ResizeObserver(redraw).observe(plane);
  picture.width = picture.height = side;
  strip.width = STRIP * side;
  strip.height = side;
  select(models[0].name);
})();
