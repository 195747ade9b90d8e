/* SPDX-License-Identifier: MIT */
#include "executor/image.h"
