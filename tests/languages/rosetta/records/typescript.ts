import { readFileSync } from "node:fs";

interface Employee {
  name: string;
  department: string;
  salary: number;
}

function parse(line: string): Employee {
  const [name, department, salary] = line.split(",");
  return { name, department, salary: Number(salary) };
}

const compare = (a: string, b: string): number => (a < b ? -1 : a > b ? 1 : 0);

const employees = readFileSync(0, "utf8").trimEnd().split("\n").map(parse);
employees.sort((a, b) => compare(a.department, b.department) || b.salary - a.salary || compare(a.name, b.name));
for (const { name, department, salary } of employees) {
  console.log(`${department.padEnd(10)} ${name.padEnd(8)} ${String(salary).padStart(6)}`);
}
