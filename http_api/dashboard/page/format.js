/* Numbers and times as people read them. */

const WHOLE = new Intl.NumberFormat("en-GB", { maximumFractionDigits: 0 });
const CLOCK = new Intl.DateTimeFormat("en-GB", { hour: "2-digit", minute: "2-digit", second: "2-digit" });
const DAY = new Intl.DateTimeFormat("en-GB", { day: "numeric", month: "short", hour: "2-digit", minute: "2-digit" });
const UNITS = ["B", "KiB", "MiB", "GiB", "TiB", "PiB"];

export function count(value) {
  return Number.isFinite(value) ? WHOLE.format(value) : "–";
}

export function bytes(value) {
  if (!Number.isFinite(value)) return "–";
  let unit = 0;
  let rest = value;
  for (; rest >= 1024 && unit < UNITS.length - 1; unit += 1) rest /= 1024;
  return `${rest.toFixed(unit > 0 && rest < 10 ? 1 : 0)} ${UNITS[unit]}`;
}

/** Write seconds with the unit that fits. */
export function seconds(value) {
  if (!Number.isFinite(value)) return "–";
  if (value === 0) return "0";
  if (value < 0.001) return `${(value * 1e6).toFixed(0)} µs`;
  if (value < 0.1) return `${(value * 1000).toFixed(1)} ms`;
  if (value < 1) return `${(value * 1000).toFixed(0)} ms`;
  if (value < 60) return `${value.toFixed(value < 10 ? 2 : 1)} s`;
  if (value < 3600) return `${Math.floor(value / 60)} min ${Math.floor(value % 60)} s`;
  return span(value);
}

/** Write how long something has been going on: it changes, so not to the millisecond. */
export function age(value) {
  return value < 60 ? `${Math.max(0, Math.floor(value))} s` : seconds(value);
}

/** Write a long time. */
export function span(value) {
  const minutes = Math.floor(Math.max(0, value) / 60);
  const [days, hours] = [Math.floor(minutes / 1440), Math.floor((minutes % 1440) / 60)];
  if (days) return `${days} d ${hours} h`;
  return hours ? `${hours} h ${minutes % 60} min` : `${minutes} min`;
}

/** Write a moment (seconds since the epoch): today's by the clock, others with their day. */
export function moment(value) {
  if (!Number.isFinite(value)) return "–";
  const date = new Date(value * 1000);
  return Math.abs(Date.now() - date.getTime()) < 12 * 3600e3 ? CLOCK.format(date) : DAY.format(date);
}

/** Write what is left until a moment. */
export function until(value) {
  const left = value - Date.now() / 1000;
  if (!Number.isFinite(left)) return "–";
  return left <= 0 ? "over" : span(left);
}

export function day(date) {
  return date.toISOString().slice(0, 10);
}
