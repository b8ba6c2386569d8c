const lines = (await Bun.stdin.text()).trimEnd().split("\n");

const employees = lines.map((line) => {
  const [name, department, salary] = line.split(",");
  return { name, department, salary: Number(salary) };
});
const compare = (a: string, b: string) => (a < b ? -1 : a > b ? 1 : 0);
const sorted = employees.toSorted(
  (a, b) => compare(a.department, b.department) || b.salary - a.salary || compare(a.name, b.name),
);
for (const { name, department, salary } of sorted) {
  console.log(`${department.padEnd(10)} ${name.padEnd(8)} ${String(salary).padStart(6)}`);
}
