// Interactive curves: Plotly is unpacked when the first chart comes near the window.
"use strict";

(function charts() {
  const elements = [...document.querySelectorAll(".plot")];
  if (!elements.length) return;
  const figures = vaelab.data("chart-data");
  const drawn = new Set();
  const coarse = matchMedia("(pointer: coarse)").matches;
  let plotly = null;

  function load() {
    plotly ??= vaelab
      .inflate(document.getElementById("plotly-source").textContent)
      .then((buffer) => {
        const script = document.createElement("script");
        script.textContent = new TextDecoder().decode(buffer);
        document.head.append(script);
        return window.Plotly;
      });
    return plotly;
  }

  /** What the theme decides, as a flat update of a layout with the given axes. */
  function themed(layout) {
    const ink = vaelab.colour("--ink");
    const muted = vaelab.colour("--muted");
    const rule = vaelab.colour("--rule");
    const update = {
      paper_bgcolor: "rgba(0,0,0,0)",
      plot_bgcolor: "rgba(0,0,0,0)",
      "font.color": muted,
      "font.family": getComputedStyle(document.body).fontFamily,
      "font.size": 12,
      "hoverlabel.bgcolor": vaelab.colour("--card"),
      "hoverlabel.bordercolor": rule,
      "hoverlabel.font.color": ink,
      "modebar.color": muted,
      "modebar.activecolor": ink,
      "modebar.bgcolor": "rgba(0,0,0,0)",
    };
    for (const axis of Object.keys(layout).filter((key) => /^[xy]axis/.test(key))) {
      update[`${axis}.gridcolor`] = rule;
      update[`${axis}.linecolor`] = rule;
      update[`${axis}.zerolinecolor`] = rule;
    }
    return update;
  }

  async function draw(element) {
    const Plotly = await load();
    const { data, layout } = figures[element.dataset.figure][Number(element.dataset.panel)];
    const config = {
      displaylogo: false,
      responsive: true,
      modeBarButtons: [["zoomIn2d", "zoomOut2d", "resetScale2d"]],
    };
    // On a touch screen a drag scrolls the page; the buttons zoom.
    const drag = coarse ? { dragmode: false } : {};
    await Plotly.newPlot(element, data, { ...layout, ...drag }, config);
    await Plotly.relayout(element, themed(layout));
    drawn.add(element);
    element.dataset.drawn = "true";
    show(element.closest(".charts"));
  }

  /** A trace is visible while every one of its tags is switched on. */
  function show(group) {
    const off = new Set(
      [...group.querySelectorAll("button[data-tag][aria-pressed='false']")].map(
        (button) => button.dataset.tag,
      ),
    );
    for (const element of group.querySelectorAll(".plot")) {
      if (!drawn.has(element)) continue;
      const visible = element.data.map((trace) => !trace.meta?.tags?.some((tag) => off.has(tag)));
      window.Plotly.restyle(element, { visible });
    }
  }

  for (const button of document.querySelectorAll(".charts button[data-tag]")) {
    button.addEventListener("click", () => {
      button.setAttribute("aria-pressed", String(button.getAttribute("aria-pressed") !== "true"));
      show(button.closest(".charts"));
    });
  }

  // Picture or interactive: one of the two at a time.
  for (const figure of document.querySelectorAll(".figure:has(.charts)")) {
    const buttons = [...figure.querySelectorAll("button[data-view]")];
    const views = {
      charts: figure.querySelector(".charts"),
      picture: figure.querySelector(".plate"),
    };
    const select = (name) => {
      for (const button of buttons) {
        button.setAttribute("aria-pressed", String(button.dataset.view === name));
      }
      for (const [key, view] of Object.entries(views)) view.hidden = key !== name;
      if (name === "charts") {
        for (const element of views.charts.querySelectorAll(".plot")) {
          if (drawn.has(element)) window.Plotly.Plots.resize(element);
        }
      }
    };
    for (const button of buttons) {
      button.addEventListener("click", () => select(button.dataset.view));
      button.parentElement.hidden = false;
    }
    select("charts");
  }

  vaelab.onTheme(() => {
    for (const element of drawn) window.Plotly.relayout(element, themed(element.layout));
  });

  const observer = new IntersectionObserver(
    (entries) => {
      for (const { isIntersecting, target } of entries) {
        if (isIntersecting) {
          observer.unobserve(target);
          draw(target);
        }
      }
    },
    { rootMargin: "600px 0px" },
  );
  for (const element of elements) observer.observe(element);
})();
