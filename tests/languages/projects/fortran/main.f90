program main
  use shapes, only: circle_area, square_area
  implicit none
  print '(a,f0.2)', 'square: ', square_area(3.0d0)
  print '(a,f0.2)', 'circle: ', circle_area(2.0d0)
end program main
