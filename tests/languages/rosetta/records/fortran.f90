program records
  implicit none
  type :: employee
    character(len=16) :: name, department
    integer :: salary
  end type employee
  type(employee) :: employees(100), moving
  integer :: used, status, outer, inner

  used = 0
  do
    read (*, *, iostat=status) moving%name, moving%department, moving%salary
    if (status /= 0) exit
    used = used + 1
    employees(used) = moving
  end do

  do outer = 2, used
    moving = employees(outer)
    do inner = outer - 1, 1, -1
      if (.not. before(moving, employees(inner))) exit
      employees(inner + 1) = employees(inner)
    end do
    employees(inner + 1) = moving
  end do

  do outer = 1, used
    print '(a10,1x,a8,1x,i6)', employees(outer)%department, employees(outer)%name, employees(outer)%salary
  end do

contains

  logical function before(a, b)
    type(employee), intent(in) :: a, b
    if (a%department /= b%department) then
      before = a%department < b%department
    else if (a%salary /= b%salary) then
      before = a%salary > b%salary
    else
      before = a%name < b%name
    end if
  end function before

end program records
