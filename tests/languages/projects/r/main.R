source("shapes.R")

describe("square", square_area(3))
describe("circle", circle_area(2))
