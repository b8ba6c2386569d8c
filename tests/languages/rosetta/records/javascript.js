const fs = require("node:fs");

const employees = fs
  .readFileSync(0, "utf8")
  .trimEnd()
  .split("\n")
  .map((line) => line.split(","))
  .map(([name, department, salary]) => ({ name, department, salary: Number(salary) }));
const compare = (a, b) => (a < b ? -1 : a > b ? 1 : 0);
employees.sort(
  (a, b) => compare(a.department, b.department) || b.salary - a.salary || compare(a.name, b.name),
);
for (const { name, department, salary } of employees) {
  console.log(`${department.padEnd(10)} ${name.padEnd(8)} ${String(salary).padStart(6)}`);
}
