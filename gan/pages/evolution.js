// One slider moves the samples, the markers on the curves and the metrics' values. Without scripts the last of each is shown.
"use strict";

{
  const data = JSON.parse(document.getElementById("evolution-data").textContent);
  const frames = [...document.querySelectorAll(".film img")];
  const player = document.getElementById("player");
  const [image, button, slider, output] = ["img", "button", "input", "output"].map((name) => player.querySelector(name));
  const [training, quality] = ["training", "quality"].map((name) => [...player.querySelectorAll(`[data-${name}]`)]);
  const measured = player.querySelector("[data-measured]");

  // a chart's own list of places: x and, for each line, y of every snapshot
  const charts = [...player.querySelectorAll("svg[data-marks]")].map((chart) => {
    const add = (name, attributes) => {
      const element = document.createElementNS("http://www.w3.org/2000/svg", name);
      Object.entries(attributes).forEach(([key, value]) => element.setAttribute(key, value));
      chart.append(element);
      return element;
    };
    const marks = JSON.parse(chart.dataset.marks);
    const line = add("line", { class: "marker", y1: marks.top, y2: marks.bottom });
    return { marks, line, dots: marks.y.map(() => add("circle", { class: "marker", r: 3.5 })) };
  });

  let timer = null;
  const show = () => {
    const index = slider.valueAsNumber;
    const frame = frames[index];
    image.src = frame.src;
    image.alt = frame.alt;
    output.textContent = frame.nextElementSibling.textContent;
    slider.setAttribute("aria-valuetext", output.textContent);
    training.forEach((cell, row) => (cell.textContent = data.training[row].texts[index]));
    if (measured) {
      const place = data.places[index];
      quality.forEach((cell, row) => (cell.textContent = data.quality[row].texts[place]));
      measured.textContent = `Quality, measured at step ${data.measured[place]}:`;
    }
    charts.forEach(({ marks, line, dots }) => {
      line.setAttribute("x1", marks.x[index]);
      line.setAttribute("x2", marks.x[index]);
      dots.forEach((dot, row) => {
        dot.setAttribute("cx", marks.x[index]);
        dot.setAttribute("cy", marks.y[row][index]);
      });
    });
  };
  const stop = () => {
    clearInterval(timer);
    timer = null;
    button.textContent = "Play";
  };
  const advance = () => {
    slider.valueAsNumber += 1;
    show();
    if (slider.value === slider.max) stop();
  };
  button.addEventListener("click", () => {
    if (timer !== null) return stop();
    if (slider.value === slider.max) slider.value = 0;
    show();
    button.textContent = "Pause";
    timer = setInterval(advance, data.frame_milliseconds);
  });
  slider.addEventListener("input", () => { stop(); show(); });
  show();
  player.querySelector(".controls").hidden = false;
}
