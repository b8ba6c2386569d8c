package main

import (
	"encoding/csv"
	"fmt"
	"log"
	"os"
	"sort"
	"strconv"
)

type employee struct {
	name, department string
	salary           int
}

func main() {
	rows, err := csv.NewReader(os.Stdin).ReadAll()
	if err != nil {
		log.Fatal(err)
	}
	var employees []employee
	for _, row := range rows {
		salary, err := strconv.Atoi(row[2])
		if err != nil {
			log.Fatal(err)
		}
		employees = append(employees, employee{row[0], row[1], salary})
	}

	sort.Slice(employees, func(i, j int) bool {
		a, b := employees[i], employees[j]
		if a.department != b.department {
			return a.department < b.department
		}
		if a.salary != b.salary {
			return a.salary > b.salary
		}
		return a.name < b.name
	})
	for _, e := range employees {
		fmt.Printf("%-10s %-8s %6d\n", e.department, e.name, e.salary)
	}
}
