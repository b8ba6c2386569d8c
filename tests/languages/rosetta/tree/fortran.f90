module trees
  implicit none

  type :: node
    integer :: key
    type(node), pointer :: left => null(), right => null()
  end type node

contains

  recursive subroutine insert(tree, key)
    type(node), pointer, intent(inout) :: tree
    integer, intent(in) :: key
    if (.not. associated(tree)) then
      allocate (tree)
      tree%key = key
    else if (key < tree%key) then
      call insert(tree%left, key)
    else
      call insert(tree%right, key)
    end if
  end subroutine insert

  recursive subroutine in_order(tree)
    type(node), pointer, intent(in) :: tree
    if (.not. associated(tree)) return
    call in_order(tree%left)
    write (*, '(1x,i0)', advance='no') tree%key
    call in_order(tree%right)
  end subroutine in_order

  recursive subroutine pre_order(tree)
    type(node), pointer, intent(in) :: tree
    if (.not. associated(tree)) return
    write (*, '(1x,i0)', advance='no') tree%key
    call pre_order(tree%left)
    call pre_order(tree%right)
  end subroutine pre_order

  recursive integer function height(tree) result(levels)
    type(node), pointer, intent(in) :: tree
    levels = 0
    if (associated(tree)) levels = 1 + max(height(tree%left), height(tree%right))
  end function height

end module trees

program search_tree
  use trees
  implicit none
  integer, parameter :: keys(*) = [50, 30, 70, 20, 40, 60, 80, 35, 45, 65, 63]
  type(node), pointer :: root
  integer :: index

  root => null()
  do index = 1, size(keys)
    call insert(root, keys(index))
  end do
  write (*, '(a)', advance='no') 'in order:'
  call in_order(root)
  write (*, '(/,a)', advance='no') 'pre-order:'
  call pre_order(root)
  print '(/,a,i0)', 'height: ', height(root)
end program search_tree
