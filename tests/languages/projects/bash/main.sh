source ./shapes.sh

describe square "$(square_area 3)"
describe circle "$(circle_area 2)"
