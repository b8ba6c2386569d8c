import csv
import sys

employees = [(department, name, int(salary)) for name, department, salary in csv.reader(sys.stdin)]
employees.sort(key=lambda employee: (employee[0], -employee[2], employee[1]))
for department, name, salary in employees:
    print(f"{department:<10} {name:<8} {salary:6}")
