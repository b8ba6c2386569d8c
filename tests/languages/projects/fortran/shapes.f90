module shapes
  implicit none
  private
  public :: circle_area, square_area
  double precision, parameter :: pi = acos(-1.0d0)

contains

  pure double precision function square_area(side)
    double precision, intent(in) :: side
    square_area = side**2
  end function square_area

  pure double precision function circle_area(radius)
    double precision, intent(in) :: radius
    circle_area = pi * radius**2
  end function circle_area

end module shapes
