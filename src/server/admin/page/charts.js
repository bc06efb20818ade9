// The small charts of the last five minutes.
import { SPAN, STEP, overall, series } from './series.js';
import { duration } from './format.js';
import { h, s, setText } from './dom.js';

const [WIDTH, HEIGHT] = [120, 26];

export class Charts {
  #charts;

  constructor(box) {
    this.#charts = {
      rate: chart(box, 'rate', 'Requests begun a second, over the last five minutes'),
      errors: chart(box, 'errors', 'Requests that ended badly, over the last five minutes'),
      latency: chart(box, 'p50 / p99', 'Half of all requests, and 99 of 100, took no longer than this: last five minutes'),
    };
  }

  // With `lossy`, more was begun of late than the rows tell.
  show(rows, now, lossy) {
    const points = series(rows, now);
    const sums = overall(rows, now);
    const recent = points.slice(-3);
    const rate = recent.reduce((sum, point) => sum + point.rate, 0) / recent.length;
    draw(this.#charts.rate, `${lossy ? '≥ ' : ''}${rate.toFixed(rate < 10 ? 1 : 0)}/s`, { whole: points.map(point => point.rate) });
    const share = sums.ended > 0 ? ` · ${((sums.bad / sums.ended) * 100).toFixed(sums.bad * 10 < sums.ended ? 1 : 0)} %` : '';
    draw(this.#charts.errors, `${sums.bad}${share}`, { bad: points.map(point => point.bad) });
    const both = sums.p50 !== undefined ? `${duration(sums.p50)} / ${duration(sums.p99)}` : '–';
    draw(this.#charts.latency, both, { faint: points.map(point => point.p99), whole: points.map(point => point.p50) });
    this.#charts.errors.box.classList.toggle('bad', sums.bad > 0);
  }
}

function chart(box, name, title) {
  const value = h('b', {}, '–');
  const lines = {};
  const drawing = s('svg', { viewBox: `0 0 ${WIDTH} ${HEIGHT}`, preserveAspectRatio: 'none', 'aria-hidden': 'true' });
  for (const kind of ['faint', 'whole', 'bad']) drawing.append((lines[kind] = s('path', { class: kind })));
  const figure = h('figure', { class: 'chart', title }, h('figcaption', {}, h('span', {}, name), value), drawing);
  box.append(figure);
  return { box: figure, value, lines };
}

function draw({ value, lines }, text, curves) {
  setText(value, text);
  const most = Math.max(1e-9, ...Object.values(curves).flat().filter(Number.isFinite));
  for (const [kind, values] of Object.entries(curves)) lines[kind].setAttribute('d', area(values, most));
}

// An area from the bottom line: a bar's shape for each step, so that a single busy step is seen; none where nothing is known.
function area(values, most) {
  const step = WIDTH / (SPAN / STEP);
  return values
    .map((value, i) => {
      if (!value) return '';
      const height = Math.max(1, (value / most) * (HEIGHT - 2));
      return `M${(i * step).toFixed(1)} ${HEIGHT}v${(-height).toFixed(1)}h${(step * 0.8).toFixed(1)}v${height.toFixed(1)}z`;
    })
    .join('');
}
