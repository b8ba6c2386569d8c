square_area <- function(side) side^2

circle_area <- function(radius) pi * radius^2

describe <- function(name, area) cat(sprintf("%s: %.2f\n", name, area))
