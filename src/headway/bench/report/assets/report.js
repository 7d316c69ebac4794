(() => {
"use strict";

const specs = JSON.parse(document.getElementById("charts").textContent);
const built = new Map();
const STAR = "★";

// What values look like: the same words as in the tables.
const digits = value => {
  const size = Math.abs(value);
  const places = size >= 100 || Number.isInteger(value) ? 0 : size >= 10 ? 1 : size >= 1 ? 2 : 3;
  return value.toFixed(places).replace(/\B(?=(\d{3})+(?!\d))/g, places ? "" : "\u202f");
};
const seconds = value => {
  if (Math.abs(value) < 0.9995) {
    const ms = value * 1000;
    return (ms >= 99.95 ? ms.toFixed(0) : String(+ms.toPrecision(3))) + " ms";
  }
  return (value < 10 ? value.toFixed(2) : value < 100 ? value.toFixed(1) : value.toFixed(0)) + " s";
};
const said = (value, unit) => {
  if (value === null || value === undefined) return "–";
  if (unit === "s") return seconds(value);
  if (unit === "share") return +(value * 100).toPrecision(3) + " %";
  return unit === "count" ? value.toFixed(0) : digits(value);
};
const tick = (value, unit) => {
  if (unit === "s") return value && value < 0.9995 ? +(value * 1000).toPrecision(6) + " ms" : +value.toPrecision(6) + " s";
  return unit === "share" ? +(value * 100).toPrecision(6) + " %" : String(+value.toPrecision(6)).replace(/^\d{5,}/, whole => whole.replace(/\B(?=(\d{3})+$)/g, "\u202f"));
};

const style = name => getComputedStyle(document.documentElement).getPropertyValue("--" + name).trim();
const ramp = place => {
  const stops = [0, 1, 2].map(at => style("ramp-" + at).split(",").map(Number));
  const at = Math.min(1, Math.floor(place * 2)), within = place * 2 - at;
  return "rgb(" + stops[at].map((from, i) => Math.round(from + (stops[at + 1][i] - from) * within)).join(",") + ")";
};
const colorOf = series => series.place === undefined ? style(series.color || "a") : ramp(series.place);
const element = (name, text) => {
  const made = document.createElement(name);
  if (text !== undefined) made.textContent = text;
  return made;
};
const font = "12px system-ui, -apple-system, 'Segoe UI', Roboto, 'DejaVu Sans', sans-serif";
const onCanvas = (plot, draw) => {
  const context = plot.ctx;
  context.save();
  context.beginPath();
  context.rect(plot.bbox.left, plot.bbox.top, plot.bbox.width, plot.bbox.height);
  context.clip();
  draw(context, devicePixelRatio || 1);
  context.restore();
};
const xAt = (plot, value) => plot.valToPos(value, "x", true);
const yAt = (plot, value) => plot.valToPos(value, "y", true);

// Scales. Log ones end where the values do, not at the next power of ten.
const logTicks = (low, high) => {
  for (const steps of [[1], [1, 3], [1, 2, 5], [1, 2, 3, 4, 5, 6, 7, 8, 9]]) {
    const found = [];
    for (let power = Math.floor(Math.log10(low)); power <= Math.ceil(Math.log10(high)); power++)
      for (const step of steps) {
        const value = +(step * 10 ** power).toPrecision(3);
        if (value >= low && value <= high) found.push(value);
      }
    if (found.length >= 3 || steps.length === 9) return found;
  }
};
const rangeOf = (axis, values, isTime) => {
  const usable = values.filter(value => value !== null && Number.isFinite(value) && (!axis.log || value > 0));
  let low = usable.length ? Math.min(...usable) : axis.log ? 0.001 : 0;
  let high = usable.length ? Math.max(...usable) : 1;
  if (axis.log) [low, high] = [axis.least ?? low / 1.35, axis.most ?? high * 1.5];
  else if (isTime) [low, high] = [axis.least ?? low, Math.max(axis.most ?? high, (axis.least ?? low) + 1e-3)];
  else [low, high] = [0, axis.most ? axis.most * 1.03 : high * 1.12 || 1];
  return [low, high];
};
const spread = (axis, range) => (u, index, low, high) =>
  axis.log ? logTicks(low, high) : uPlotSplits(low, high, range);
const uPlotSplits = (low, high, most) => {
  const raw = (high - low) / most, power = 10 ** Math.floor(Math.log10(raw));
  const step = [1, 2, 5, 10].find(each => each * power >= raw) * power, found = [];
  for (let at = Math.ceil(low / step - 1e-9); at * step <= high + step * 1e-9; at++) found.push(+(at * step).toPrecision(12));
  return found;
};
const axes = (spec, width) => [[spec.x, width < 420 ? 4 : 7], [spec.y, 5]].map(([axis, most], index) => ({
  stroke: style("soft"), font, labelFont: font, label: axis.label === "time" ? undefined : axis.label, labelSize: 18, labelGap: index ? 2 : 0,
  size: index ? 56 : 32, gap: 6, grid: { stroke: style("grid"), width: 1 }, ticks: { show: false },
  splits: spread(axis, most), filter: (u, splits) => splits,
  values: (u, splits) => {
    const shown = splits.map(value => tick(value, axis.unit));
    return axis.log && splits.length > 12 ? shown.map((text, at) => /^[125]0*( |$|\.)/.test(text) || /0\.0*[125]( |$)/.test(text) ? text : "") : shown;
  },
}));

// What lies behind and before the lines.
const drawBehind = spec => plot => onCanvas(plot, context => {
  const { left, top, width, height } = plot.bbox;
  if (spec.pass_below !== undefined && spec.pass_below !== null) {
    const y = yAt(plot, spec.pass_below);
    context.fillStyle = style("pass");
    context.fillRect(left, y, width, top + height - y);
  }
  context.fillStyle = style("dim");
  for (const [from, to] of spec.dimmed || []) context.fillRect(xAt(plot, from), top, xAt(plot, to) - xAt(plot, from), height);
});
const drawMarks = spec => plot => onCanvas(plot, (context, ratio) => {
  const { left, top, width, height } = plot.bbox;
  context.font = `${12 * ratio}px ${font.slice(5)}`;
  for (const mark of spec.marks || []) {
    const color = style(mark.color || "missed");
    context.strokeStyle = color; context.fillStyle = color;
    context.lineWidth = 1.5 * ratio; context.setLineDash([6 * ratio, 4 * ratio]);
    context.beginPath();
    if (mark.axis === "y") { const y = yAt(plot, mark.value); context.moveTo(left, y); context.lineTo(left + width, y); }
    else { const x = xAt(plot, mark.value); context.moveTo(x, top); context.lineTo(x, top + height); }
    context.stroke();
    context.setLineDash([]);
    context.strokeStyle = style("card"); context.lineWidth = 4 * ratio; context.lineJoin = "round";
    let x, y;
    if (mark.axis === "y") {
      context.textAlign = "left"; context.textBaseline = "bottom";
      [x, y] = [left + 6 * ratio, yAt(plot, mark.value) - 4 * ratio];
      if (y < top + 30 * ratio) { context.textBaseline = "top"; y = yAt(plot, mark.value) + 4 * ratio; }
    } else {
      context.textBaseline = "top";
      const isRight = xAt(plot, mark.value) > left + width * 0.7;
      context.textAlign = isRight ? "right" : "left";
      [x, y] = [xAt(plot, mark.value) + (isRight ? -6 : 6) * ratio, top + 4 * ratio];
    }
    context.strokeText(mark.label, x, y);
    context.fillText(mark.label, x, y);
  }
});
const drawPoints = spec => plot => onCanvas(plot, (context, ratio) => {
  spec.series.forEach((series, at) => {
    if (series.style !== "points" || !plot.series[at + 1].show) return;
    const color = colorOf(series), values = series.values;
    const known = (series.order && series.order.length ? series.order : values.map((_, index) => index)).filter(index => values[index] !== null);
    const place = index => [xAt(plot, spec.x_values[index]), yAt(plot, values[index])];
    context.strokeStyle = color; context.fillStyle = color; context.lineWidth = 1.5 * ratio;
    context.setLineDash(series.is_dashed ? [4 * ratio, 4 * ratio] : []);
    context.beginPath();
    known.forEach((index, nth) => nth ? context.lineTo(...place(index)) : context.moveTo(...place(index)));
    context.stroke();
    context.setLineDash([]);
    for (const index of known) {
      const [x, y] = place(index), low = series.low && series.low[index], high = series.high && series.high[index];
      if (low !== undefined && (low !== null || high !== null)) {
        // An end that too few values bound is an arrow.
        const bottom = low === null ? y + 24 * ratio : yAt(plot, Math.max(low, plot.scales.y.min));
        const top = high === null ? y - 24 * ratio : yAt(plot, high);
        context.beginPath();
        context.moveTo(x, bottom); context.lineTo(x, top);
        for (const [value, end, back] of [[low, bottom, -5], [high, top, 5]]) {
          const turn = value === null ? back * ratio : 0;
          context.moveTo(x - 4 * ratio, end + turn); context.lineTo(x, end); context.lineTo(x + 4 * ratio, end + turn);
        }
        context.stroke();
      }
      context.beginPath();
      if (index === series.star) star(context, x, y, 10 * ratio);
      else context.arc(x, y, 4.5 * ratio, 0, 7);
      context.fill();
    }
    context.font = `${12 * ratio}px ${font.slice(5)}`;
    context.fillStyle = style(series.is_dashed ? "soft" : "text"); context.strokeStyle = style("card"); context.lineWidth = 3 * ratio;
    const taken = [];
    for (const index of [...known].reverse()) {
      if (!series.names || !series.names[index]) continue;
      const [x, y] = place(index), wide = context.measureText(series.names[index]).width;
      const isLeft = x - wide - 8 * ratio > plot.bbox.left;
      const from = isLeft ? x - wide - 8 * ratio : x + 8 * ratio, box = [from, y - 16 * ratio, from + wide, y - 2 * ratio];
      if (taken.some(other => box[0] < other[2] && other[0] < box[2] && box[1] < other[3] && other[1] < box[3])) continue;
      taken.push(box);
      context.textAlign = "left"; context.textBaseline = "bottom";
      context.strokeText(series.names[index], from, y - 2 * ratio);
      context.fillText(series.names[index], from, y - 2 * ratio);
    }
  });
});
const star = (context, x, y, size) => {
  for (let at = 0; at < 10; at++) {
    const radius = at % 2 ? size * 0.45 : size, angle = Math.PI * (at / 5 - 0.5);
    context[at ? "lineTo" : "moveTo"](x + radius * Math.cos(angle), y + radius * Math.sin(angle));
  }
  context.closePath();
};

// Single requests: [name, intended, sent, begun, first, end, stalls, miss]. A null begun: the server does not tell.
const PARTS = [["late send", "e"], ["queue", "b"], ["until first token", "d"], ["decode", "a"], ["stall", "missed"]];
const partsOf = ([, intended, sent, begun, first, end, stalls]) => {
  const found = [[0, intended, sent]], until = first === null ? end : first;
  if (begun === null) found.push([2, sent, until]);
  else found.push([1, sent, Math.min(begun, until)], [2, Math.min(begun, until), until]);
  if (first !== null) found.push([3, first, end]);
  for (let at = 0; at < stalls.length; at += 2) found.push([4, stalls[at], stalls[at + 1]]);
  return found;
};
const drawRaster = spec => plot => onCanvas(plot, (context, ratio) => {
  const colors = PARTS.map(([, name]) => style(name)), miss = style("missed");
  const each = yAt(plot, 1) - yAt(plot, 0), tall = Math.max(1, Math.abs(each) * (Math.abs(each) > 4 * ratio ? 0.78 : 0.95));
  spec.rows.forEach((row, at) => {
    const y = yAt(plot, at + 0.5) - tall / 2;
    for (const [part, from, to] of partsOf(row)) {
      context.fillStyle = colors[part];
      const left = xAt(plot, from), wide = xAt(plot, to) - left;
      if (wide > 0) context.fillRect(left, y, Math.max(wide, part === 4 ? ratio : 0), tall);
    }
    if (row[7]) {
      const x = xAt(plot, row[5]) + 3 * ratio, half = Math.min(tall, 7 * ratio) / 2, middle = y + tall / 2;
      context.strokeStyle = miss; context.lineWidth = 1.5 * ratio;
      context.beginPath();
      context.moveTo(x, middle - half); context.lineTo(x + 2 * half, middle + half);
      context.moveTo(x, middle + half); context.lineTo(x + 2 * half, middle - half);
      context.stroke();
    }
  });
});
const rasterText = row => {
  const spans = partsOf(row), of = part => spans.filter(each => each[0] === part).reduce((sum, each) => sum + each[2] - each[1], 0);
  const told = PARTS.map(([name], part) => [name, of(part)]).filter(([name, span]) => span > 0.0005);
  return `Request ${row[0]} at ${seconds(row[1])}: ` + told.map(([name, span]) => `${name} ${seconds(span)}`).join(", ") + (row[7] ? `; miss: ${row[7]}` : "; in SLO");
};

// Legend: names that switch lines on and off, and values where the cursor is.
const legendOf = (figure, spec, plot) => {
  const legend = figure.querySelector(".legend");
  legend.replaceChildren();
  if (spec.rows) {
    for (const [name, color] of PARTS) {
      const item = element("span"), swatch = element("i");
      swatch.className = "block"; swatch.style.background = style(color);
      item.append(swatch, name);
      legend.append(item);
    }
    const text = element("span", "✕ miss");
    legend.append(text);
    const reading = element("b");
    const holder = element("span"); holder.append(reading); legend.append(holder);
    return index => { reading.textContent = index === null || !spec.rows[index] ? "" : rasterText(spec.rows[index]); return reading.textContent; };
  }
  const where = element("span"), values = spec.series.map((series, at) => {
    const many = spec.series.length > 1, item = element(many ? "button" : "span"), swatch = element("i"), value = element("b");
    swatch.style.background = colorOf(series);
    item.append(swatch, series.label, value);
    if (many) {
      item.type = "button";
      item.setAttribute("aria-pressed", "true");
      item.addEventListener("click", () => {
        const show = item.getAttribute("aria-pressed") !== "true";
        item.setAttribute("aria-pressed", String(show));
        plot().setSeries(at + 1, { show });
      });
    }
    legend.append(item);
    return value;
  });
  legend.append(where);
  return index => {
    const has = index !== null && index !== undefined;
    where.textContent = has ? `at ${said(spec.x_values[index], spec.x.unit)}` : "";
    const texts = spec.series.map((series, at) => {
      const value = has ? series.values[index] : undefined;
      const text = !has || value === null ? "" : said(value, spec.y.unit) + interval(series, index, spec.y.unit);
      values[at].textContent = text;
      return text && `${series.label} ${text}`;
    });
    return has ? `${said(spec.x_values[index], spec.x.unit)}: ${texts.filter(Boolean).join(", ")}` : "";
  };
};
const interval = (series, index, unit) => {
  const low = series.low && series.low[index], high = series.high && series.high[index];
  if (low === undefined || low === null && high === null) return "";
  return ` (${low === null ? "…" : said(low, unit)} to ${high === null ? "…" : said(high, unit)})`;
};

const build = (figure, spec) => {
  const box = figure.querySelector(".plot"), width = Math.max(220, box.clientWidth);
  let plot = null;
  const read = legendOf(figure, spec, () => plot);
  const all = [...(spec.series || []).flatMap(series => [...series.values, ...(series.low || []), ...(series.high || [])]),
    ...(spec.marks || []).filter(mark => mark.axis === "y").map(mark => mark.value)];
  const xMarks = (spec.marks || []).filter(mark => mark.axis === "x").map(mark => mark.value);
  const isTime = spec.x.label === "time";
  const rows = spec.rows ? spec.rows.length : 0;
  const yRange = rows ? [rows, 0] : rangeOf(spec.y, all, false);
  const xRange = spec.x.log ? [Math.min(...spec.x_values, ...xMarks) / 1.1, Math.max(...spec.x_values, ...xMarks) * 1.1]
    : rangeOf(spec.x, [...spec.x_values, ...(spec.dimmed || []).flat()], isTime);
  const scale = (axis, range) => axis.log ? { time: false, distr: 3, range: () => range } : { time: false, range: () => range };
  const hooks = { drawClear: [drawBehind(spec)], draw: [rows ? drawRaster(spec) : drawPoints(spec), drawMarks(spec)] };
  let isKey = false;
  hooks.setCursor = [u => {
    const index = rows ? (u.cursor.top >= 0 ? Math.floor(u.posToVal(u.cursor.top, "y")) : null) : u.cursor.left >= 0 ? u.cursor.idx : null;
    const text = read(index);
    if (isKey) figure.querySelector(".spoken").textContent = text;
  }];
  const chartAxes = axes(spec, width);
  if (rows) chartAxes[1].show = false;
  plot = new uPlot({
    width, height: spec.height || 300, legend: { show: false }, hooks, axes: chartAxes, padding: [8, 22, 0, rows ? 10 : 0],
    scales: { x: scale(spec.x, xRange), y: rows ? { time: false, dir: 1, range: () => [rows, 0] } : scale(spec.y, yRange) },
    cursor: {
      y: Boolean(rows), drag: { x: false, y: false }, points: { size: 8 },
      ...(spec.sync ? { sync: { key: spec.sync, scales: ["x", null], setSeries: false } } : {}),
    },
    series: [{}, ...(rows ? [{ paths: () => null, points: { show: false } }] : spec.series.map(series => {
      const isPoints = series.style === "points", width = series.style === "thin" ? 1.25 : 2;
      return {
        label: series.label, stroke: colorOf(series), width, spanGaps: false,
        dash: series.is_dashed ? [5, 4] : undefined,
        paths: isPoints ? () => null : series.style === "steps" ? uPlot.paths.stepped({ align: 1 }) : undefined,
        points: { show: isPoints || spec.series.length && series.style === undefined && spec.x_values.length < 2 ? false : undefined, size: 4 },
      };
    }))],
  }, rows ? [spec.x_values, spec.x_values.map((_, at) => at * rows)] : [spec.x_values, ...spec.series.map(series => series.values)], box);
  const steps = rows || spec.x_values.length;
  let at = null;
  box.onkeydown = event => {
    const move = { ArrowRight: 1, ArrowDown: 1, ArrowLeft: -1, ArrowUp: -1, PageDown: 10, PageUp: -10, Home: -steps, End: steps }[event.key];
    if (event.key === "Escape") { at = null; plot.setCursor({ left: -10, top: -10 }, true, true); return; }
    if (move === undefined) return;
    event.preventDefault();
    at = Math.max(0, Math.min(steps - 1, (at ?? (move > 0 ? -1 : steps)) + move));
    isKey = true;
    if (rows) plot.setCursor({ left: 10, top: plot.valToPos(at + 0.5, "y") });
    else plot.setCursor({ left: plot.valToPos(spec.x_values[at], "x"), top: plot.over.clientHeight / 2 }, true, true);
    isKey = false;
  };
  return plot;
};

// Data out: the chart's own numbers, in the units of the axes (seconds, shares of 1).
const quoted = value => {
  let text = value === null || value === undefined ? "" : String(value);
  if (typeof value === "string" && /^[=+\-@\t\r]/.test(text)) text = "'" + text;
  return /[",\n]/.test(text) ? `"${text.replace(/"/g, '""')}"` : text;
};
const csvOf = spec => {
  if (spec.rows) return [["request", "intended_s", "sent_s", "begun_s", "first_s", "end_s", "stalls_s", "miss"], ...spec.rows.map(row => row.map(cell => Array.isArray(cell) ? cell.join(" ") : cell))];
  const heads = [spec.x.label + (spec.x.unit === "s" ? " (s)" : "")], columns = [spec.x_values];
  for (const series of spec.series) {
    const unit = spec.y.unit === "s" ? " (s)" : "";
    heads.push(series.label + unit); columns.push(series.values);
    if (series.names && series.names.some(Boolean)) { heads.push(series.label + ", level"); columns.push(series.names); }
    for (const end of ["low", "high"]) if (series[end] && series[end].length) { heads.push(`${series.label}, ${end}${unit}`); columns.push(series[end]); }
  }
  return [heads, ...spec.x_values.map((_, at) => columns.map(column => column[at]))];
};
const save = (name, lines) => {
  const link = element("a");
  link.href = URL.createObjectURL(new Blob([lines.map(line => line.map(quoted).join(",")).join("\n") + "\n"], { type: "text/csv" }));
  link.download = name.toLowerCase().replace(/[^a-z0-9]+/g, "-").replace(/^-|-$/g, "") + ".csv";
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 1000);
};

const draw = () => {
  for (const figure of document.querySelectorAll("[data-chart]")) {
    if (built.has(figure) || !figure.offsetParent) continue;
    built.set(figure, build(figure, specs[Number(figure.dataset.chart)]));
  }
};
const redraw = () => {
  for (const [figure, plot] of built) { plot.destroy(); figure.querySelector(".plot").replaceChildren(); }
  built.clear();
  draw();
};
document.addEventListener("click", event => {
  const button = event.target.closest("button");
  if (!button) return;
  if (button.dataset.csv !== undefined) {
    const spec = specs[Number(button.closest("[data-chart]").dataset.chart)];
    save(spec.title, csvOf(spec));
  } else if (button.dataset.tableCsv !== undefined) {
    const rows = button.closest(".table-box").querySelectorAll("tr");
    save(button.dataset.tableCsv, [...rows].map(row => [...row.children].map(cell => {
      const copy = cell.cloneNode(true);
      copy.querySelectorAll(".hint, .bar").forEach(each => each.remove());
      return copy.textContent.trim();
    })));
  } else if (button.dataset.copy !== undefined) {
    const code = button.closest(".code").querySelector("code"), range = document.createRange();
    range.selectNodeContents(code);
    const selection = getSelection();
    selection.removeAllRanges(); selection.addRange(range);
    let copied = Boolean(navigator.clipboard);
    if (copied) navigator.clipboard.writeText(code.textContent);
    else copied = document.execCommand("copy");
    button.textContent = copied ? "Copied" : "Selected";
    setTimeout(() => { button.textContent = "Copy"; }, 1500);
  }
});
for (const choice of document.querySelectorAll(".choice")) {
  const select = choice.querySelector(":scope > .chooser select");
  if (select) select.addEventListener("change", () => {
    choice.querySelectorAll(":scope > .option").forEach((option, at) => { option.hidden = at !== Number(select.value); });
    draw();
  });
}
document.addEventListener("toggle", draw, true);
let width = innerWidth, timer = 0;
addEventListener("resize", () => {
  if (innerWidth === width) return;
  width = innerWidth;
  clearTimeout(timer);
  timer = setTimeout(redraw, 150);
});
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", redraw);
draw();
document.documentElement.dataset.ready = "true";
})();
